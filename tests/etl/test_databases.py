"""The same tables from a database: as mimic-code builds it with DuckDB, and what a user is told otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from etl.build import build_cohort
from etl.cohort import read_cohort
from etl.databases import Database
from etl.errors import SourceDataError
from etl.settings import CohortSettings
from etl.source import TABLES, needed, open_source

DDL = {
    "patients": "subject_id INTEGER, gender CHAR(1), anchor_age SMALLINT, anchor_year SMALLINT, "
    "anchor_year_group VARCHAR(20), dod DATE",
    "admissions": "subject_id INTEGER, hadm_id INTEGER, admittime TIMESTAMP, dischtime TIMESTAMP, "
    "deathtime TIMESTAMP, admission_type VARCHAR(40), race VARCHAR(80), hospital_expire_flag SMALLINT",
    "diagnoses_icd": "subject_id INTEGER, hadm_id INTEGER, seq_num INTEGER, icd_code CHAR(7), icd_version SMALLINT",
    "d_icd_diagnoses": "icd_code CHAR(7), icd_version SMALLINT, long_title VARCHAR(255)",
    "prescriptions": "subject_id INTEGER, hadm_id INTEGER, starttime TIMESTAMP(3), stoptime TIMESTAMP(3), "
    "drug_type VARCHAR(20), drug VARCHAR(255), ndc VARCHAR(25), route VARCHAR(50)",
    "omr": "subject_id INTEGER, chartdate TIMESTAMP(0), seq_num INTEGER, result_name VARCHAR(255), "
    "result_value VARCHAR(255)",
    "labevents": "labevent_id INTEGER, subject_id INTEGER, itemid INTEGER, charttime TIMESTAMP(0), "
    "storetime TIMESTAMP(0), valuenum DOUBLE PRECISION",
}
"""Columns that the small hospital's files have, with the types of mimic-iv/buildmimic of MIT-LCP/mimic-code."""


def database(path: Path, hosp: Path, schema: str = "mimiciv_hosp", tables: tuple[str, ...] = tuple(TABLES)) -> Path:
    """Copy csv.gz files into a DuckDB database, as mimic-code's import_duckdb.sh does."""
    with duckdb.connect(path) as con:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}").fetchall()
        for table in tables:
            columns = ", ".join(part.split()[0] for part in DDL[table].split(","))
            con.execute(f"CREATE TABLE {schema}.{table} ({DDL[table]})").fetchall()
            source = f"read_csv('{hosp / table}.csv.gz', header = true, all_varchar = true)"
            con.execute(f"INSERT INTO {schema}.{table} SELECT {columns} FROM {source}").fetchall()
    return path


@pytest.fixture
def hosp(tmp_path: Path, tables, write_tables) -> Path:
    return write_tables(tmp_path / "mimic", tables) / "hosp"


@pytest.fixture
def refused(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run `rxdraft etl` on a bad source; return the one line it says, after checking that it leaves nothing."""

    def run(source: object) -> str:
        status, out, err = command("etl", "--mimic", source, "--out", tmp_path / "out" / "run")
        assert (status, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith("rxdraft: ")
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
        return err

    return run


# --- the same bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["mimiciv_hosp", "hosp", "main"])
def test_a_database_gives_the_bytes_of_the_files_it_was_made_from(tmp_path, hosp, schema):
    build_cohort(hosp.parent, tmp_path / "files")
    made = build_cohort(database(tmp_path / "mimic4.db", hosp, schema), tmp_path / "database")
    for name in ("samples.parquet", "formulary.parquet", "icd_titles.parquet"):
        assert (tmp_path / "files" / name).read_bytes() == (tmp_path / "database" / name).read_bytes(), name
    assert made["source"]["kind"] == "duckdb"
    assert set(made["inputs"]) == {"database"}
    differing = {"inputs", "source", "outputs"}
    files = read_cohort(tmp_path / "files")
    assert {name for name in files if files[name] != made[name]} <= differing


@pytest.mark.demo_data
def test_the_demo_as_a_database_gives_the_bytes_of_its_files(tmp_path, mimic_demo):
    settings = CohortSettings(labs=True, open_data=True)
    source = database(tmp_path / "mimic4.db", mimic_demo / "hosp", tables=tuple(needed(labs=True)))
    build_cohort(mimic_demo, tmp_path / "files", settings)
    build_cohort(source, tmp_path / "database", settings)
    for name in ("samples.parquet", "formulary.parquet", "icd_titles.parquet"):
        assert (tmp_path / "files" / name).read_bytes() == (tmp_path / "database" / name).read_bytes(), name


def test_a_changed_database_is_another_input(tmp_path, hosp, command):
    source = database(tmp_path / "mimic4.db", hosp)
    assert command("etl", "--mimic", source, "--out", tmp_path / "run")[0] == 0
    assert command("etl", "--mimic", source, "--out", tmp_path / "run")[0] == 0
    with duckdb.connect(source) as con:
        con.execute("DELETE FROM mimiciv_hosp.omr WHERE seq_num = 2").fetchall()
    status, _, err = command("etl", "--mimic", source, "--out", tmp_path / "run")
    assert status == 2
    assert "differs in inputs;" in err


def test_the_source_is_never_written(tmp_path, hosp):
    source = database(tmp_path / "mimic4.db", hosp)
    before = source.read_bytes()
    source.chmod(0o444)
    build_cohort(source, tmp_path / "run")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mimic", "mimic4.db", "run"]


# --- what cannot be read ------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [("omr",), ("patients", "d_icd_diagnoses")])
def test_all_missing_tables_are_named_with_their_schema(tmp_path, hosp, refused, missing):
    there = tuple(table for table in TABLES if table not in missing)
    line = refused(database(tmp_path / "mimic4.db", hosp, tables=there))
    assert f"mimic4.db lacks {', '.join(f'mimiciv_hosp.{table}' for table in TABLES if table in missing)};" in line


def test_tables_of_another_schema_are_not_guessed_at(tmp_path, hosp, refused):
    line = refused(database(tmp_path / "mimic4.db", hosp, "research"))
    assert "mimiciv_hosp.patients" in line
    assert "mimic-code" in line


def test_all_missing_columns_are_named(tmp_path, hosp, refused):
    source = database(tmp_path / "mimic4.db", hosp)
    with duckdb.connect(source) as con:
        con.execute(
            "ALTER TABLE mimiciv_hosp.patients DROP gender; ALTER TABLE mimiciv_hosp.omr DROP seq_num"
        ).fetchall()
    line = refused(source)
    assert "mimiciv_hosp.patients lacks column gender" in line
    assert "mimiciv_hosp.omr lacks column seq_num" in line


def test_a_value_of_another_type_is_not_quoted(tmp_path, hosp, refused):
    source = database(tmp_path / "mimic4.db", hosp)
    with duckdb.connect(source) as con:
        con.execute("ALTER TABLE mimiciv_hosp.omr ALTER chartdate TYPE VARCHAR").fetchall()
        con.execute("UPDATE mimiciv_hosp.omr SET chartdate = 'CANARY'").fetchall()
    line = refused(source)
    assert "mimiciv_hosp.omr holds a value of another type than" in line
    assert "CANARY" not in line


def test_a_file_that_is_no_database_is_refused(tmp_path, refused):
    (tmp_path / "notes.db").write_text("CANARY, not a database")
    assert "notes.db cannot be opened" in refused(tmp_path / "notes.db")


@pytest.mark.parametrize("kept", [0, 100, 12_288, 0.5, 0.99])
def test_a_truncated_database_is_refused(tmp_path, hosp, refused, kept):
    path = database(tmp_path / "mimic4.db", hosp)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    assert str(path) in refused(path)


def test_a_damaged_block_of_a_table_is_refused_and_the_table_named(tmp_path, hosp, refused):
    path = database(tmp_path / "mimic4.db", hosp)
    with duckdb.connect(path) as con:  # enough rows for blocks of their own
        con.execute("CHECKPOINT").fetchall()
        before = path.stat().st_size
        con.execute(
            "INSERT INTO mimiciv_hosp.omr SELECT 101, DATE '2150-01-01', i, md5(CAST(i AS VARCHAR)), '63' "
            "FROM range(100000) AS t (i)"
        ).fetchall()
    data = bytearray(path.read_bytes())
    data[before + 300_000] ^= 1
    path.write_bytes(data)
    assert f"{path}: mimiciv_hosp.omr is truncated or damaged" in refused(path)


def test_a_database_that_another_process_writes_is_refused(tmp_path, hosp, refused):
    path = database(tmp_path / "mimic4.db", hosp)
    hold = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        line = refused(path)
        other.communicate("")
    assert "a database that no other program is writing" in line


# --- PostgreSQL ---------------------------------------------------------------------------------------

SECRET = "postgresql://reader:CANARY@db.invalid:5432/mimiciv"  # noqa: S105


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgres_without_its_extension_says_how_to_export_and_shows_no_password(
    refused, monkeypatch, tmp_path, scheme
):
    connect = duckdb.connect
    nowhere = {"extension_directory": str(tmp_path / "none"), "custom_extension_repository": str(tmp_path / "none")}
    monkeypatch.setattr("etl.databases.duckdb.connect", lambda: connect(config=nowhere))
    line = refused(SECRET.replace("postgresql", scheme))
    assert "CANARY" not in line
    assert "db.invalid" not in line
    assert "\\copy" in line


def test_a_password_stands_in_no_word_that_a_source_says_of_itself(monkeypatch):
    source = Database(SECRET, "mimiciv_hosp", {"patients": ["gender"]}, "postgres")
    assert "CANARY" not in source.name("patients")
    assert source.digests() is None
    connect = duckdb.connect
    local = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    monkeypatch.setattr("etl.databases.duckdb.connect", lambda: connect(config=local))
    monkeypatch.setattr("etl.databases._load_postgres", lambda con: None)  # as if it were there, but no server is
    with pytest.raises(SourceDataError, match="the PostgreSQL database cannot be opened") as refusal:
        open_source(SECRET, needed())
    assert "CANARY" not in str(refusal.value)
