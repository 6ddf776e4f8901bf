"""A MIMIC-IV folder of csv.gz, csv and parquet files, mixed as one likes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts
from etl.csv_stream import DAMAGED, ChunkFile, CsvStream
from etl.errors import SourceDataError

_SUFFIXES = (".parquet", ".csv", ".csv.gz")

_DAMAGED_GZ = "the gz file is truncated or damaged; copy it again"
_NO_PARQUET = "not a readable Parquet file; copy it again"
_NOT_UTF_8 = "not UTF-8; convert the file to UTF-8"
_OTHER_WIDTH = "not comma-separated text with the header's number of columns; restore the file"


@dataclass(frozen=True, slots=True)
class Files:
    """The files of `hosp/`, one per table.

    Attributes:
        folder: what the user named; a SHA256SUMS.txt there is checked.
        paths: the file of each table.
    """

    folder: Path
    paths: dict[str, Path]
    kind = "files"

    @classmethod
    def find(cls, folder: Path, tables: list[str]) -> Files:
        """Find each table's file in `folder/hosp`, or in `folder` itself.

        Raises:
            SourceDataError: no such folder, or tables missing; all of them are named.
        """
        hosp = folder / "hosp" if (folder / "hosp").is_dir() else folder
        if not hosp.is_dir():
            raise SourceDataError(f"{folder} is not a folder; point --mimic at the folder that holds hosp/")
        beside = {table: [hosp / f"{table}{suffix}" for suffix in _SUFFIXES] for table in tables}
        found = {table: path for table, paths in beside.items() for path in reversed(paths) if path.is_file()}
        missing = [f"{table}{{{','.join(reversed(_SUFFIXES))}}}" for table in tables if table not in found]
        if missing:
            raise SourceDataError(f"{hosp} lacks {', '.join(missing)}; point --mimic at the folder that holds hosp/")
        return cls(folder, found)

    def name(self, table: str) -> str:
        """Return the file's path."""
        return str(self.paths[table])

    def columns(self, table: str) -> list[str]:
        """Return the names in the file's header.

        Raises:
            SourceDataError: the file cannot be read, or is empty.
        """
        path = self.paths[table]
        try:
            if path.suffix == ".parquet":
                with duckdb.connect() as con:
                    return [row[0] for row in con.execute(f"DESCRIBE FROM {_parquet(path)}").fetchall()]
            header = CsvStream(path).header
        except duckdb.Error:
            raise SourceDataError(f"{path}: {_NO_PARQUET}") from None
        except DAMAGED:
            raise SourceDataError(f"{path}: {_DAMAGED_GZ}") from None
        if not header:
            raise SourceDataError(f"{path} has no rows; copy it again")
        return header

    def stamps(self) -> dict[str, Any]:
        """Return each file's place, size and time of change."""
        return {table: _stamp(path) for table, path in self.paths.items()}

    def size(self, table: str) -> int:
        """Return the file's bytes."""
        return self.paths[table].stat().st_size

    def digests(self) -> dict[str, str]:
        """Return each file's SHA-256, compared with the release's own SHA256SUMS.txt where that lies beside.

        Raises:
            SourceDataError: files differ from their sums; all of them are named.
        """
        found = {table: artefacts.sha256_file(path) for table, path in sorted(self.paths.items())}
        sums = self.folder / "SHA256SUMS.txt"
        listed = dict[Path, str]()
        if sums.is_file():
            for line in sums.read_text("utf-8", errors="replace").splitlines():
                digest, _, name = line.partition(" ")
                listed[self.folder / name.strip().lstrip("*")] = digest.lower()
        other = [str(path) for table, path in self.paths.items() if listed.get(path, found[table]) != found[table]]
        if other:
            raise SourceDataError(
                f"{', '.join(other)} differs from {sums}; copy it again, or remove that file if the change is yours"
            )
        return found

    def insert(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        columns: dict[str, str],
        into: str,
        told: Callable[[int, int], None],
    ) -> None:
        """Run `into` over the file's rows; what is told are bytes of the file.

        Raises:
            SourceDataError: a row cannot be read; its line and column are named, never its content.
        """
        path = self.paths[table]
        size = path.stat().st_size
        if path.suffix == ".parquet":
            _insert_parquet(con, path, columns, into)
        else:
            _insert_csv(con, CsvStream(path), columns, into, told)
        told(size, size)


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _insert_parquet(con: duckdb.DuckDBPyConnection, path: Path, columns: dict[str, str], into: str) -> None:
    cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
    try:
        con.execute(into.format(source=f"(SELECT {cast} FROM {_parquet(path)})")).fetchall()
    except duckdb.ConversionException:
        raise SourceDataError(f"{path}: {_bad_columns(_parquet(path), columns)}") from None
    except (duckdb.OutOfMemoryException, duckdb.IOException):
        raise  # of the database, not of the file: see etl.workspace
    except duckdb.Error:
        raise SourceDataError(f"{path}: {_NO_PARQUET}") from None


def _insert_csv(
    con: duckdb.DuckDBPyConnection,
    stream: CsvStream,
    columns: dict[str, str],
    into: str,
    told: Callable[[int, int], None],
) -> None:
    size, number = stream.path.stat().st_size, 0
    file = ChunkFile(re.sub("[^a-z]", "", stream.path.name))
    con.register_filesystem(file)
    try:
        for number, chunk in enumerate(stream.chunks()):  # noqa: B007
            file.lent = chunk.data
            con.execute(into.format(source=_csv(file, stream.header, columns))).fetchall()
            told(chunk.compressed_end, size)
    except duckdb.ConversionException as error:
        bad = _bad_columns(_csv(file, stream.header, {}), columns, file)
        raise SourceDataError(f"{stream.path}: {_line(str(error), stream, number)}{bad}") from None
    except duckdb.InvalidInputException as error:  # too little memory and a full disk are not the file's fault
        bad = _NOT_UTF_8 if "Invalid unicode" in str(error) else _OTHER_WIDTH
        raise SourceDataError(f"{stream.path}: {_line(str(error), stream, number)}{bad}") from None
    except DAMAGED:
        raise SourceDataError(f"{stream.path}: {_DAMAGED_GZ}") from None
    finally:
        con.unregister_filesystem(file.protocol)


def _csv(file: ChunkFile, header: list[str], columns: dict[str, str]) -> str:
    """Return the FROM clause that reads the lent chunk; columns nobody reads are text, so none can stop a load."""
    names = ", ".join(f"'{_quoted(name)}': '{columns.get(name, 'VARCHAR')}'" for name in header)
    return (
        f"read_csv('{file.path}', header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
        f"columns = {{{names}}})"
    )


def _parquet(path: Path) -> str:
    return f"read_parquet('{_quoted(str(path))}')"


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _line(message: str, stream: CsvStream, chunk: int) -> str:
    """Return "line N: " where DuckDB's error tells it, before it quotes anything; else nothing."""
    found = re.match(r"[\w ]+: CSV Error on Line: (\d+)", message)
    return f"line {int(found[1]) + stream.lines_before(chunk)}: " if found else ""


def _bad_columns(scan: str, columns: dict[str, str], file: ChunkFile | None = None) -> str:
    """Name the columns that hold a value of another type; DuckDB's own words quote the value, so we look again."""
    tests = ", ".join(f"bool_or({n} IS NOT NULL AND TRY_CAST({n} AS {k}) IS NULL)" for n, k in columns.items())
    with duckdb.connect() as con:
        if file is not None:
            con.register_filesystem(file)
        try:
            found = con.execute(f"SELECT {tests} FROM {scan}").fetchall()[0]
        except duckdb.Error:
            return _OTHER_WIDTH if file else _NO_PARQUET
    bad = [(name, kind) for (name, kind), wrong in zip(columns.items(), found, strict=True) if wrong]
    return ", ".join(f"column {name} holds a value that is no {kind}" for name, kind in bad) + "; restore the file"
