"""Read a MIMIC-IV folder into typed tables, or say in one line everything that is wrong with it.

Only the columns the cohort needs are read, so releases that rename or add others (2.2, 3.1) read alike.
Codes are read as text: guessed types would turn ICD-9 code 0389 into 389.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from etl import artefacts
from etl.errors import SourceDataError

TABLES: dict[str, dict[str, str]] = {
    "patients": {"subject_id": "BIGINT", "gender": "VARCHAR", "anchor_age": "INTEGER", "anchor_year": "INTEGER"},
    "admissions": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "admittime": "TIMESTAMP",
        "dischtime": "TIMESTAMP",
        "admission_type": "VARCHAR",
        "race": "VARCHAR",
    },
    "diagnoses_icd": {"hadm_id": "BIGINT", "seq_num": "INTEGER", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
    "d_icd_diagnoses": {"icd_code": "VARCHAR", "icd_version": "INTEGER", "long_title": "VARCHAR"},
    "prescriptions": {
        "hadm_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "drug_type": "VARCHAR",
        "drug": "VARCHAR",
    },
    "omr": {
        "subject_id": "BIGINT",
        "chartdate": "DATE",
        "seq_num": "INTEGER",
        "result_name": "VARCHAR",
        "result_value": "VARCHAR",
    },
}
"""The tables of `hosp/` and the columns read, with their types."""

_SUFFIXES = (".csv.gz", ".csv", ".parquet")

_KEYS = {
    "patients": ("subject_id",),
    "admissions": ("hadm_id",),
    "d_icd_diagnoses": ("icd_code", "icd_version"),
}
"""Keys the joins rely on: a repeated one would multiply admissions without a word."""


def find_files(mimic: Path) -> dict[str, Path]:
    """Find each needed table's file in `mimic/hosp`, or in `mimic` itself.

    Raises:
        SourceDataError: no such folder, or tables missing; all of them are named.
    """
    folder = mimic / "hosp" if (mimic / "hosp").is_dir() else mimic
    if not folder.is_dir():
        raise SourceDataError(f"{mimic} is not a folder; point --mimic at the folder that holds hosp/")
    found = {
        table: path
        for table in TABLES
        for path in (folder / f"{table}{suffix}" for suffix in reversed(_SUFFIXES))
        if path.is_file()
    }
    missing = [table for table in TABLES if table not in found]
    if missing:
        names = ", ".join(f"{table}{{{','.join(_SUFFIXES)}}}" for table in missing)
        raise SourceDataError(f"{folder} lacks {names}; point --mimic at the folder that holds hosp/")
    return found


def digests(mimic: Path, files: dict[str, Path]) -> dict[str, str]:
    """Return each file's SHA-256, compared with the release's own SHA256SUMS.txt where that lies beside.

    A gz file with a flipped bit can inflate without an error; the release's sums are what tells.

    Raises:
        SourceDataError: files differ from their sums; all of them are named.
    """
    found = {table: artefacts.sha256_file(path) for table, path in sorted(files.items())}
    sums = mimic / "SHA256SUMS.txt"
    listed = dict[Path, str]()
    if sums.is_file():
        for line in sums.read_text("utf-8", errors="replace").splitlines():
            digest, _, name = line.partition(" ")
            listed[mimic / name.strip().lstrip("*")] = digest.lower()
    other = [str(path) for table, path in files.items() if listed.get(path, found[table]) != found[table]]
    if other:
        raise SourceDataError(
            f"{', '.join(other)} differs from {sums}; copy it again, or remove that file if the change is yours"
        )
    return found


def load(con: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> dict[str, int]:
    """Load the files as tables of schema `raw`, and check what every later join relies on.

    Args:
        con: an open database without a schema `raw`.
        files: as `find_files` returns them.

    Returns:
        Rows read per table.

    Raises:
        SourceDataError: columns are missing, a value is not of its type, a gz file ends early, a text is not
            UTF-8, a table is empty, a key repeats, or an ICD version is unknown. No value is quoted.
    """
    _check_columns(con, files)
    con.execute("CREATE SCHEMA raw").fetchall()
    for table, path in files.items():
        columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in TABLES[table].items())
        try:
            con.execute(f"CREATE TABLE raw.{table} AS SELECT {columns} FROM {_scan(path, TABLES[table])}").fetchall()
        except duckdb.ConversionException as error:
            raise SourceDataError(f"{path}: {_line(str(error))}{_bad_column(con, table, path)}") from None
        except duckdb.Error as error:
            raise SourceDataError(f"{path}: {_explain(str(error))}") from None
    read = {table: _one(con, f"SELECT count(*) FROM raw.{table}") for table in files}
    empty = [f"{files[table]} has no rows; copy it again" for table, rows in read.items() if not rows]
    problems = empty or _broken_keys(con, files) + _unknown_versions(con, files)
    if problems:
        raise SourceDataError("; ".join(problems))
    return read


def _scan(path: Path, columns: dict[str, str]) -> str:
    """Return the FROM clause that reads one file, these columns of a csv with these types and all others as text."""
    quoted = str(path).replace("'", "''")
    if path.suffix == ".parquet":
        return f"read_parquet('{quoted}')"
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    # Text, not guessed, so that a column nobody reads cannot stop a load.
    options = f"all_varchar = true, types = {{{types}}}" if types else "all_varchar = true"
    return f"read_csv('{quoted}', header = true, delim = ',', quote = '\"', escape = '\"', {options})"


def _check_columns(con: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> None:
    problems = []
    for table, path in files.items():
        try:
            have = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {_scan(path, {})}").fetchall()]
        except duckdb.Error as error:
            problems.append(f"{path}: {_explain(str(error))}")
            continue
        missing = [name for name in TABLES[table] if name not in have]
        if missing:
            problems.append(f"{path} lacks column {', '.join(missing)}")
    if problems:
        raise SourceDataError("; ".join(problems) + "; wanted are MIMIC-IV 2.2 or 3.1 hosp tables")


def _line(message: str) -> str:
    """Return "line N: " where DuckDB's error tells it, before it quotes anything; else nothing."""
    line = re.match(r"[\w ]+: CSV Error on Line: (\d+)", message)
    return f"line {line[1]}: " if line else ""


def _bad_column(con: duckdb.DuckDBPyConnection, table: str, path: Path) -> str:
    """Name the columns that hold a value of another type; DuckDB's own words quote the value, so we look again."""
    tests = ", ".join(f"bool_or({n} IS NOT NULL AND TRY_CAST({n} AS {k}) IS NULL)" for n, k in TABLES[table].items())
    try:
        found = con.execute(f"SELECT {tests} FROM {_scan(path, {})}").fetchall()[0]
    except duckdb.Error as error:
        return _explain(str(error))
    bad = [(name, kind) for (name, kind), wrong in zip(TABLES[table].items(), found, strict=True) if wrong]
    return ", ".join(f"column {name} holds a value that is no {kind}" for name, kind in bad) + "; restore the file"


def _explain(message: str) -> str:
    """Turn DuckDB's error, which quotes the row, into one clause without any value."""
    where = _line(message).removesuffix(": ") or "some row"
    if "GZIP" in message or "gzip" in message:
        return "the gz file is truncated or damaged; copy it again"
    if "not utf-8" in message.lower() or "invalid unicode" in message.lower():
        return f"{where} is not UTF-8; convert the file to UTF-8"
    if "Parquet" in message or "parquet" in message:
        return "not a readable Parquet file; copy it again"
    return f"{where} cannot be read as comma-separated text with the header's number of columns; restore the file"


def _broken_keys(con: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> list[str]:
    problems = []
    for table, key in _KEYS.items():
        columns = ", ".join(key)
        repeated = _one(con, f"SELECT count(*) FROM (SELECT 1 FROM raw.{table} GROUP BY {columns} HAVING count(*) > 1)")
        missing = _one(con, f"SELECT count(*) FROM raw.{table} WHERE {' OR '.join(f'{c} IS NULL' for c in key)}")
        if repeated:
            problems.append(
                f"{files[table]}: {repeated} values of {columns} stand in more than one row, wanted one each"
            )
        if missing:
            problems.append(f"{files[table]}: {missing} rows without {columns}")
    return problems


def _unknown_versions(con: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> list[str]:
    problems = []
    for table in ("diagnoses_icd", "d_icd_diagnoses"):
        rows = con.execute(
            f"SELECT coalesce(CAST(icd_version AS VARCHAR), 'none'), count(*) FROM raw.{table} "
            "WHERE icd_version IS NULL OR icd_version NOT IN (9, 10) GROUP BY 1 ORDER BY 1"
        ).fetchall()
        problems += [
            f"{files[table]}: icd_version {version} in {count} rows, wanted 9 or 10" for version, count in rows
        ]
    return problems


def _one(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return con.execute(query).fetchall()[0][0]
