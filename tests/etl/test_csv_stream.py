from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl import csv_stream
from etl.csv_stream import DAMAGED, CsvStream
from etl.errors import SourceDataError
from etl.files import Files

NAMES = ("a", "b", "c")
INTO = f"INSERT INTO t SELECT {', '.join(NAMES)} FROM {{source}}"

# Carriage returns inside a field are left out: DuckDB refuses them where lines end otherwise (tested below).
texts = st.text(
    st.sampled_from("a1 ,\"\né日\U0001f600\x00\x1f;'#\\") | st.characters(exclude_characters="\r", codec="utf-8")
)
tables = st.lists(st.tuples(texts, texts, texts), max_size=8)
line_ends = st.sampled_from(["\n", "\r\n"])
chunk_sizes = st.integers(1, 200) | st.just(csv_stream.CHUNK_BYTES)


def written(rows: list[tuple[str, ...]], line_end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def read_by_python(body: bytes, *, strict: bool = True) -> list[tuple[str | None, ...]]:
    """What csv reads, without blank lines; to us an empty text is no text."""
    rows = csv.reader(io.StringIO(body.decode(), newline=""), strict=strict)
    return [tuple(field or None for field in row) for row in rows if row]


def stored(folder: Path, body: bytes, suffix: str = ".csv", header: bytes = b"a,b,c\n") -> Path:
    path = folder / f"t{suffix}"
    path.write_bytes(gzip.compress(header + body, mtime=0) if suffix.endswith("gz") else header + body)
    return path


def loaded(path: Path) -> list[tuple[str | None, ...]]:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t (a VARCHAR, b VARCHAR, c VARCHAR)").fetchall()
        Files(path.parent, {"t": path}).insert(
            con, "t", dict.fromkeys(NAMES, "VARCHAR"), INTO, lambda done, total: None
        )
        return con.execute("FROM t").fetchall()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("stream")


@pytest.fixture
def in_chunks_of(monkeypatch: pytest.MonkeyPatch):
    """Make every stream that `Files` opens one of small chunks."""
    return lambda size: monkeypatch.setattr("etl.files.CsvStream", lambda path: CsvStream(path, size))


# --- whole records, all of them -----------------------------------------------------------------------


@given(
    rows=tables, line_end=line_ends, bom=st.booleans(), suffix=st.sampled_from([".csv", ".csv.gz"]), size=chunk_sizes
)
@example(rows=[('"\n"', "\n\n", '"')], line_end="\n", bom=True, suffix=".csv", size=1)
def test_chunks_are_whole_records_and_together_the_whole_body(folder, rows, line_end, bom, suffix, size):
    body = written(rows, line_end)
    header = (b"\xef\xbb\xbf" if bom else b"") + f'a,"b", c{line_end}'.encode()
    stream = CsvStream(stored(folder, body, suffix, header), size)
    chunks = [chunk.data for chunk in stream.chunks()]
    assert stream.header == list(NAMES)
    assert b"".join(chunks) == body
    assert all(chunks)
    assert [row for chunk in chunks for row in read_by_python(chunk)] == read_by_python(body)
    assert [stream.lines_before(number) for number in range(len(chunks))] == [
        1 + b"".join(chunks[:number]).count(b"\n") for number in range(len(chunks))
    ]


@settings(max_examples=60)
@given(rows=tables.filter(bool), line_end=line_ends, suffix=st.sampled_from([".csv", ".csv.gz"]), size=chunk_sizes)
def test_a_load_reads_what_pythons_csv_reads(folder, rows, line_end, suffix, size):
    if line_end == "\r\n":  # a bare newline within a field is refused where lines end in two characters
        rows = [tuple(field.replace("\n", "\r\n") for field in row) for row in rows]
    body = written(rows, line_end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.files.CsvStream", lambda path: CsvStream(path, size))
        assert loaded(stored(folder, body, suffix)) == read_by_python(body)


@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n", b"\n\n\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_last_record_counts_however_its_line_ends(folder, in_chunks_of, last, size):
    in_chunks_of(size)
    assert loaded(stored(folder, b"1,2,3" + last)) == [("1", "2", "3")]


def test_a_file_of_several_gz_members_is_read_to_its_end(folder):
    path = stored(folder, b"1,2,3\n", ".csv.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(b'4,"5\n', mtime=0) + gzip.compress(b'",6\n', mtime=0))
    assert loaded(path) == [("1", "2", "3"), ("4", "5\n", "6")]


# --- what is damaged ----------------------------------------------------------------------------------


def test_a_gz_cut_at_any_byte_is_damaged(folder):
    path = stored(folder, written([("1", "é", '"')] * 40), ".csv.gz")
    data = path.read_bytes()
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DAMAGED):
            list(CsvStream(path, 64).chunks())


def test_a_flipped_byte_of_the_checksum_or_length_is_damaged(folder):
    path = stored(folder, written([("1", "2", "3")] * 40), ".csv.gz")
    data = path.read_bytes()
    for place in range(-8, 0):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + (data[place + 1 :] if place < -1 else b""))
        with pytest.raises(DAMAGED):
            list(CsvStream(path).chunks())


def test_garbage_behind_the_end_is_damaged(folder):
    path = stored(folder, b"1,2,3\n", ".csv.gz")
    path.write_bytes(path.read_bytes() + b"4,5,6\n")
    with pytest.raises(DAMAGED):
        list(CsvStream(path).chunks())


@pytest.mark.parametrize("size", [16, 1000])
def test_the_line_of_a_row_that_cannot_be_read_is_the_files(folder, in_chunks_of, size):
    in_chunks_of(size)
    with pytest.raises(SourceDataError, match=r"t\.csv: line 32:"):
        loaded(stored(folder, b"1,2,3\n" * 30 + b"CANARY,2\n" + b"1,2,3\n" * 30))


# --- quotes astray ------------------------------------------------------------------------------------


def refused_or_right(path: Path, body: bytes) -> bool:
    """Tell a load in one line of refusal from one that reads what csv reads; anything else is a failure."""
    try:
        found = loaded(path)
    except SourceDataError as refusal:
        return str(refusal).startswith(f"{path}: ") and "\n" not in str(refusal)
    return found == read_by_python(body, strict=False)


@settings(max_examples=80)
@given(
    rows=st.lists(st.tuples(*[st.text('a,"\n', max_size=4)] * 3), min_size=1, max_size=30),
    place=st.floats(0, 1),
    size=st.sampled_from([3, 40, 10_000]),
)
def test_a_stray_quote_is_refused_or_costs_no_row(folder, rows, place, size):
    """Where columns begin in such a row, DuckDB and Python's csv do not always agree."""
    body = written(rows)
    cut = int(place * len(body))
    body = body[:cut] + b'"' + body[cut:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.files.CsvStream", lambda path: CsvStream(path, size))
        path = stored(folder, body)
        assert refused_or_right(path, body) or len(loaded(path)) == len(read_by_python(body, strict=False))


def test_a_stray_quote_never_gathers_more_than_a_chunk_and_the_longest_record(folder, monkeypatch):
    monkeypatch.setattr(csv_stream, "LONGEST_RECORD_BYTES", 500)
    body = b'1,"2,3\n' + b"1,2,3\n" * 10_000
    chunks = [chunk.data for chunk in CsvStream(stored(folder, body), 100).chunks()]
    assert b"".join(chunks) == body
    assert max(map(len, chunks)) <= 500 + 100 + len(b"1,2,3\n")


@pytest.mark.parametrize("row", [b"1,2,3\r\n", b'1,2,"a\r\nb"\n', b'1,2,"a\rb"\n', b"1,2,a\rb\n", b"1,2,3\r"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("size", [1, 1000])
def test_line_ends_of_two_kinds_are_refused_or_read_right(folder, in_chunks_of, row, first, size):
    in_chunks_of(size)
    body = row + b"4,5,6\n" if first else b"4,5,6\n" + row
    assert refused_or_right(stored(folder, body), body)
