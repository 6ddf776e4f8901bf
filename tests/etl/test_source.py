from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from etl.build import build_cohort
from etl.cohort import read_cohort
from etl.errors import SourceDataError
from etl.files import Files
from etl.source import TABLES, load, needed, open_source

CANARY = "CANARY77"
"""Stands in every bad row; no message may hold it."""


@pytest.fixture
def refused(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> Callable[[Path], str]:
    """Run `rxdraft etl` on a bad folder; return the one line it says, after checking that it says no more."""

    def run(mimic: Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, out, err = command("etl", "--mimic", mimic, "--out", tmp_path / "out" / "run")
        assert status == 2, err
        assert out == ""
        assert err.startswith("rxdraft: ")
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1, err
        assert CANARY not in err
        left = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path != tmp_path / "out"]
        assert left == []
        return err

    return run


def load_all(con: duckdb.DuckDBPyConnection, mimic: Path) -> None:
    """Load every table of a folder into a fresh database."""
    con.execute("CREATE SCHEMA raw; CREATE TABLE loaded (source_table VARCHAR, rows_read BIGINT)").fetchall()
    tables = needed()
    found = open_source(mimic, tables)
    for table, columns in tables.items():
        load(con, found, table, columns)


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def rewrite(path: Path, data: str | bytes) -> None:
    path.write_bytes(gzip.compress(data.encode() if isinstance(data, str) else data, mtime=0))


# --- what is missing ----------------------------------------------------------------------------------


def test_what_is_no_folder_is_named(tmp_path, refused):
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")
    (tmp_path / "file.csv").write_text("x")
    assert str(tmp_path / "file.csv") in refused(tmp_path / "file.csv")


@pytest.mark.parametrize("missing", [["omr"], ["patients", "d_icd_diagnoses"], list(TABLES)])
def test_all_missing_files_are_named_and_no_other(tmp_path, tables, write_tables, refused, missing):
    mimic = write_tables(tmp_path / "mimic", {name: rows for name, rows in tables.items() if name not in missing})
    line = refused(mimic)
    assert str(mimic / "hosp") in line
    assert [name for name in TABLES if f" {name}{{" in line] == [name for name in TABLES if name in missing]


@pytest.mark.parametrize("suffix", ["csv.gz", "csv", "parquet"])
def test_all_missing_columns_of_all_files_are_named(tmp_path, tables, write_tables, refused, suffix):
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, suffix))
    gone = {"patients": ["gender", "anchor_age"], "prescriptions": ["drug"]}
    for table, columns in gone.items():
        path = mimic / "hosp" / f"{table}.{suffix}"
        frame = pl.read_parquet(path) if suffix == "parquet" else pl.read_csv(path, infer_schema=False)
        path.unlink()
        frame = frame.drop(columns)
        if suffix == "parquet":
            frame.write_parquet(path)
        elif suffix == "csv":
            frame.write_csv(path)
        else:
            rewrite(path, frame.write_csv())
    line = refused(mimic)
    assert f"patients.{suffix} lacks column gender, anchor_age" in line
    assert f"prescriptions.{suffix} lacks column drug" in line
    assert "omr" not in line


# --- what is broken -----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_a_gz_that_ends_early_is_refused(tmp_path, tiny_hospital, refused, table, kept):
    mimic = copy(tiny_hospital, tmp_path / "mimic")
    path = mimic / "hosp" / f"{table}.csv.gz"
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(len(data) * kept))])
    line = refused(mimic)
    assert str(path) in line
    assert "truncated" in line


def test_not_one_byte_of_a_gz_can_be_missed(tmp_path, tables, write_tables):
    mimic = write_tables(tmp_path / "mimic", tables)
    path = mimic / "hosp" / "omr.csv.gz"
    data = path.read_bytes()
    for length in [*range(1, len(data) - 16, 16), *range(len(data) - 16, len(data))]:
        path.write_bytes(data[:length])
        with duckdb.connect() as con, pytest.raises(SourceDataError, match=r"omr\.csv\.gz"):
            load_all(con, mimic)


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("how", ["zero bytes", "zero bytes unpacked", "header only", "header only, no newline"])
def test_a_table_without_rows_is_refused(tmp_path, tables, write_tables, refused, table, how):
    mimic = write_tables(tmp_path / "mimic", tables)
    path = mimic / "hosp" / f"{table}.csv.gz"
    header = text_of(path).split("\n")[0]
    if how == "zero bytes":
        path.write_bytes(b"")
    else:
        rewrite(path, {"zero bytes unpacked": "", "header only": f"{header}\n"}.get(how, header))
    assert str(path) in refused(mimic)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_empty_file_of_any_format_is_refused(tmp_path, tables, write_tables, refused, suffix):
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, suffix))
    path = mimic / "hosp" / f"admissions.{suffix}"
    path.write_bytes(b"")
    assert str(path) in refused(mimic)
    if suffix == "parquet":
        pl.DataFrame(
            tables["admissions"], schema=dict.fromkeys(tables["admissions"][0], pl.String)
        ).clear().write_parquet(path)
        assert "no rows" in refused(mimic)


@pytest.mark.parametrize("damage", ["cut", "page"])
def test_a_damaged_parquet_is_refused(tmp_path, tables, write_tables, refused, damage):
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, "parquet"))
    path = mimic / "hosp" / "omr.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-20] if damage == "cut" else data[:4] + bytes(200) + data[204:])
    line = refused(mimic)
    assert f"{path}: not a readable Parquet file" in line


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
def test_too_little_memory_is_no_fault_of_a_file(tmp_path, tables, write_tables, suffix):
    tables["prescriptions"] *= 20_000
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, suffix))
    little = {"memory_limit": "4MB", "temp_directory": ""}
    with duckdb.connect(config=little) as con, pytest.raises(duckdb.OutOfMemoryException):
        load_all(con, mimic)


@pytest.mark.parametrize(
    ("table", "key"),
    [("patients", "subject_id"), ("admissions", "hadm_id"), ("d_icd_diagnoses", "icd_code, icd_version")],
)
def test_a_repeated_key_is_refused(tmp_path, tables, write_tables, refused, table, key):
    twin = dict(tables[table][0])
    twin.update({name: CANARY for name in twin if name in ("race", "long_title", "gender")})
    tables[table].append(twin)
    mimic = write_tables(tmp_path / "mimic", tables)
    line = refused(mimic)
    assert f"{table}.csv.gz" in line
    assert f" {key} " in line
    assert "1 values" in line


def test_a_row_repeated_in_every_column_that_is_read_is_one_row_and_counted(cohort_of, tables, fresh_tables):
    plain = cohort_of(fresh_tables())
    tables["patients"].append({**tables["patients"][0], "dod": "2190-01-01"})
    tables["admissions"] += 2 * [tables["admissions"][3]]
    tables["d_icd_diagnoses"].append(tables["d_icd_diagnoses"][0])
    repeated = cohort_of(tables)
    assert (repeated / "samples.parquet").read_bytes() == (plain / "samples.parquet").read_bytes()
    touched = {rule["rule"]: rule["touched"] for rule in read_cohort(repeated)["rules"]}
    assert touched["repeated_row"] == 4
    assert read_cohort(repeated)["rows_read"]["admissions"] == len(tables["admissions"])


@pytest.mark.parametrize(
    ("table", "key"), [("patients", "subject_id"), ("admissions", "hadm_id"), ("d_icd_diagnoses", "icd_code")]
)
def test_an_absent_key_is_refused(tmp_path, tables, write_tables, refused, table, key):
    tables[table][1][key] = ""
    line = refused(write_tables(tmp_path / "mimic", tables))
    assert f"{table}.csv.gz: 1 rows without" in line


@pytest.mark.parametrize("table", ["diagnoses_icd", "d_icd_diagnoses"])
@pytest.mark.parametrize("version", ["11", "0", ""])
def test_an_unknown_icd_version_is_refused(tmp_path, tables, write_tables, refused, table, version):
    tables[table][0].update(icd_version=version, icd_code=CANARY)
    line = refused(write_tables(tmp_path / "mimic", tables))
    assert f"{table}.csv.gz" in line
    assert f"icd_version {version or 'none'} in 1 rows" in line


@pytest.mark.parametrize(
    ("table", "column"),
    [("admissions", "race"), ("prescriptions", "drug"), ("omr", "result_value"), ("d_icd_diagnoses", "long_title")],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_text_that_is_not_utf_8_is_refused(tmp_path, tables, write_tables, refused, table, column, suffix):
    tables[table][-1][column] = f"{CANARY} café"
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, suffix))
    path = mimic / "hosp" / f"{table}.{suffix}"
    if suffix == "csv":
        path.write_bytes(path.read_text("utf-8").encode("latin-1"))
    else:
        rewrite(path, text_of(path).encode("latin-1"))
    line = refused(mimic)
    assert f"{path}: line {1 + len(tables[table])}: not UTF-8" in line


TYPED = [
    ("patients", "subject_id", "BIGINT"),
    ("patients", "anchor_age", "INTEGER"),
    ("admissions", "hadm_id", "BIGINT"),
    ("admissions", "admittime", "TIMESTAMP"),
    ("diagnoses_icd", "icd_version", "INTEGER"),
    ("diagnoses_icd", "seq_num", "INTEGER"),
    ("prescriptions", "starttime", "TIMESTAMP"),
    ("omr", "chartdate", "DATE"),
]


@pytest.mark.parametrize(("table", "column", "kind"), TYPED)
@pytest.mark.parametrize("suffix", ["csv.gz", "csv"])
def test_a_value_of_another_type_is_refused_with_its_line_and_column(
    tmp_path, tables, write_tables, refused, table, column, kind, suffix
):
    tables[table][2][column] = CANARY
    line = refused(write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, suffix)))
    assert f"{table}.{suffix}: line 4: column {column} holds a value that is no {kind}" in line


@pytest.mark.parametrize(("table", "column", "kind"), TYPED)
def test_a_parquet_value_of_another_type_is_refused(tmp_path, tables, write_tables, refused, table, column, kind):
    mimic = write_tables(tmp_path / "mimic", tables, dict.fromkeys(tables, "parquet"))
    path = mimic / "hosp" / f"{table}.parquet"
    frame = pl.read_parquet(path).with_columns(pl.lit(CANARY).alias(column))
    frame.write_parquet(path)
    line = refused(mimic)
    assert str(path) in line
    assert "holds a value that is no" in line
    assert kind.removesuffix("EGER").removeprefix("BIG") in line


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
@pytest.mark.parametrize("value", [f"due to '{CANARY}'", f"due to {CANARY}\nor not", f'converting column "{CANARY}"'])
def test_a_value_that_reads_like_the_readers_own_words_is_not_quoted(
    tmp_path, tables, write_tables, refused, value, suffix
):
    mimic = write_tables(tmp_path / "mimic", tables, {"omr": "parquet"} if suffix == "parquet" else None)
    path = mimic / "hosp" / f"omr.{suffix}"
    frame = (pl.read_parquet(path) if suffix == "parquet" else pl.read_csv(path)).with_columns(seq_num=pl.lit(value))
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        rewrite(path, frame.write_csv())
    assert str(path) in refused(mimic)


@pytest.mark.parametrize(
    "text",
    [f"{CANARY},1", f"{CANARY},1,1,1", f"101,2150-01-01,1,Weight (Lbs),150,{CANARY}", f'101,"{CANARY}'],
)
def test_a_row_of_another_width_is_refused(tmp_path, tables, write_tables, refused, text):
    mimic = write_tables(tmp_path / "mimic", tables)
    path = mimic / "hosp" / "omr.csv.gz"
    rewrite(path, f"{text_of(path)}{text}\n")
    assert f"{path}: line 11: not comma-separated text with the header's number of columns" in refused(mimic)


def test_a_value_far_behind_the_first_rows_is_refused_too(tmp_path, tables, write_tables, refused):
    """DuckDB looks at the first 20,480 rows to guess types; nothing here may rest on the guess."""
    tables["omr"] += [
        {"subject_id": 101, "chartdate": "2150-01-01", "seq_num": n, "result_name": "x", "result_value": n}
        for n in range(30_000)
    ]
    tables["omr"].append({**tables["omr"][0], "seq_num": CANARY})
    line = refused(write_tables(tmp_path / "mimic", tables))
    assert "column seq_num" in line
    assert f"line {1 + len(tables['omr'])}:" in line


def test_files_of_different_releases_leave_no_admission(tmp_path, tables, write_tables, refused):
    for row in tables["diagnoses_icd"]:
        row["hadm_id"] = int(row["hadm_id"]) + 50_000
    line = refused(write_tables(tmp_path / "mimic", tables))
    assert "no admission is left" in line
    assert "admissions read: 6" in line


# --- what is well -------------------------------------------------------------------------------------


def copy(hospital: Path, folder: Path) -> Path:
    (folder / "hosp").mkdir(parents=True)
    for path in (hospital / "hosp").iterdir():
        (folder / "hosp" / path.name).write_bytes(path.read_bytes())
    return folder


MIXTURE = ("csv", "parquet", "csv.gz")


@pytest.mark.parametrize(
    "formats",
    [
        dict.fromkeys(TABLES, "csv"),
        dict.fromkeys(TABLES, "parquet"),
        {table: MIXTURE[n % 3] for n, table in enumerate(TABLES)},
        {table: MIXTURE[(n + 1) % 3] for n, table in enumerate(TABLES)},
    ],
    ids=["csv", "parquet", "mixture", "other mixture"],
)
def test_every_format_gives_the_same_samples_byte_for_byte(cohort_of, fresh_tables, formats):
    outputs = ["samples.parquet", "formulary.parquet", "icd_titles.parquet"]
    packed, other = cohort_of(fresh_tables()), cohort_of(fresh_tables(), formats=formats)
    for name in outputs:
        assert (packed / name).read_bytes() == (other / name).read_bytes(), name


def test_a_synthetic_hospital_gives_the_same_samples_unpacked(tmp_path, tiny_hospital, tiny_cohort):
    mimic = tmp_path / "mimic"
    (mimic / "hosp").mkdir(parents=True)
    for path in (tiny_hospital / "hosp").iterdir():
        (mimic / "hosp" / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
    build_cohort(mimic, tmp_path / "run")
    assert (tmp_path / "run" / "samples.parquet").read_bytes() == (tiny_cohort / "samples.parquet").read_bytes()


def test_files_may_stand_without_a_folder_hosp(tmp_path, tables, write_tables):
    mimic = write_tables(tmp_path / "mimic", tables)
    assert Files.find(mimic, list(TABLES)).paths == Files.find(mimic / "hosp", list(TABLES)).paths


@pytest.mark.parametrize("suffix", ["csv.gz", "csv", "parquet"])
def test_leading_zeros_of_codes_survive_whatever_stands_beside_them(samples_of, tables, suffix):
    # A file in which every code is digits is what makes a reader guess numbers.
    for row in tables["diagnoses_icd"]:
        row.update(icd_code="0389", icd_version=9, seq_num=1)
    tables["d_icd_diagnoses"] = tables["d_icd_diagnoses"][:2]
    samples = samples_of(tables, formats=dict.fromkeys(tables, suffix))
    codes = [diagnosis for sample in samples.values() for diagnosis in sample["diagnoses"]]
    assert codes
    assert {(d["icd_code"], d["title"]) for d in codes} == {("0389", "Unspecified septicemia")}


def test_added_and_reordered_columns_change_nothing(cohort_of, tables, fresh_tables, tmp_path, write_tables):
    plain = cohort_of(fresh_tables())
    mimic = write_tables(tmp_path / "mimic", tables)
    shuffle = random.Random(5)
    for path in (mimic / "hosp").iterdir():
        rows = [line.split(",") for line in text_of(path).splitlines()]
        order = list(range(len(rows[0])))
        shuffle.shuffle(order)
        lines = [",".join(["added" if n == 0 else "é 1", *(row[i] for i in order)]) for n, row in enumerate(rows)]
        rewrite(path, "\n".join(lines) + "\n")
    build_cohort(mimic, tmp_path / "run")
    assert (tmp_path / "run" / "samples.parquet").read_bytes() == (plain / "samples.parquet").read_bytes()


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(
    cohort_of, tables, tmp_path, write_tables, fresh_tables
):
    mimic = write_tables(tmp_path / "mimic", tables)
    for path in (mimic / "hosp").iterdir():
        rewrite(path, b"\xef\xbb\xbf" + text_of(path).replace("\n", "\r\n").encode())
    build_cohort(mimic, tmp_path / "run")
    assert (tmp_path / "run" / "samples.parquet").read_bytes() == (
        cohort_of(fresh_tables()) / "samples.parquet"
    ).read_bytes()


@pytest.mark.parametrize(
    "drug", ['Tylenol "PM", strong', "two\nlines", "#comment", "NULL", "N/A", "; | \t x", "é½", "'"]
)
def test_any_text_is_read_as_it_stands(tmp_path, tables, write_tables, drug):
    tables["prescriptions"][0]["drug"] = drug
    mimic = write_tables(tmp_path / "mimic", tables)
    with duckdb.connect() as con:
        load_all(con, mimic)
        read: list[Any] = con.execute("SELECT drug FROM raw.prescriptions").fetchall()
    assert read == [(row["drug"],) for row in tables["prescriptions"]]
