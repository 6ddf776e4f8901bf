"""What is read of MIMIC-IV, from where, and what every later join relies on.

Only the columns the cohort needs are read, so releases that rename or add others (2.2, 3.1) read alike.
Where a table lies, and how it is read from there, is the business of `etl.files` and `etl.databases`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import duckdb

from etl.databases import Database
from etl.drug_map import DrugMap
from etl.errors import SourceDataError
from etl.files import Files
from etl.warehouse import transaction

Columns = dict[str, str]
"""Columns of a table and the DuckDB types they are read as; codes are text, or 0389 becomes 389."""

TABLES: dict[str, Columns] = {
    "patients": {
        "subject_id": "BIGINT",
        "gender": "VARCHAR",
        "anchor_age": "INTEGER",
        "anchor_year": "INTEGER",
        "anchor_year_group": "VARCHAR",
    },
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
"""The tables of `hosp/` and the columns read of each."""

LABEVENTS: Columns = {
    "subject_id": "BIGINT",
    "itemid": "INTEGER",
    "charttime": "TIMESTAMP",
    "storetime": "TIMESTAMP",
    "valuenum": "DOUBLE",
}
"""Read only where laboratory values are asked for: it is by far the biggest table."""

_KEYS = {
    "patients": ("subject_id",),
    "admissions": ("hadm_id",),
    "d_icd_diagnoses": ("icd_code", "icd_version"),
}
"""Keys the joins rely on: a repeated one would multiply admissions without a word."""


class Source(Protocol):
    """Where MIMIC-IV's tables lie."""

    @property
    def kind(self) -> str:
        """Return files, duckdb or postgres."""
        ...

    def name(self, table: str) -> str:
        """Return where a table lies, as an error names it."""
        ...

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        ...

    def stamps(self) -> dict[str, Any] | None:
        """Return what tells in a moment that nothing was changed since a run that was cut off; None: nothing does."""
        ...

    def size(self, table: str) -> int:
        """Return about how much there is to read of a table; the biggest is begun first."""
        ...

    def digests(self) -> dict[str, str] | None:
        """Return what tells this source from another one, by table; None where nothing can."""
        ...

    def insert(
        self, con: duckdb.DuckDBPyConnection, table: str, columns: Columns, into: str, told: Callable[[int, int], None]
    ) -> None:
        """Run `into`, an INSERT that reads `{source}`, over a table's rows; tell how far it is."""
        ...


def needed(*, labs: bool = False, drug_map: DrugMap | None = None) -> dict[str, Columns]:
    """Return the tables and columns that a cohort reads."""
    tables = {table: dict(columns) for table, columns in TABLES.items()}
    if drug_map is not None and drug_map.key != "drug":
        tables["prescriptions"][drug_map.key] = "VARCHAR"
    return {**tables, "labevents": LABEVENTS} if labs else tables


def open_source(where: str | Path, tables: dict[str, Columns]) -> Source:
    """Find the tables at `where`: a folder, a DuckDB database as mimic-code builds it, or a PostgreSQL one.

    Raises:
        SourceDataError: nothing is there, or tables or columns are missing; all of them are named.
    """
    source: Source = (
        Database.open(where, list(tables)) if Database.is_one(where) else Files.find(Path(where), list(tables))
    )
    lacking = {
        table: [name for name in columns if name not in source.columns(table)] for table, columns in tables.items()
    }
    problems = [f"{source.name(table)} lacks column {', '.join(names)}" for table, names in lacking.items() if names]
    if problems:
        raise SourceDataError("; ".join(problems) + "; wanted are MIMIC-IV 2.2 or 3.1 hosp tables")
    return source


def load(
    con: duckdb.DuckDBPyConnection,
    source: Source,
    table: str,
    columns: Columns,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Load one table into schema `raw`, whole or not at all, and note in `loaded` how many rows were read.

    Rows of a keyed table that repeat another in every column are one row.

    Args:
        con: holds the schema `raw` and the table `loaded`; for prescriptions and labevents also their seeds.
        source: as `open_source` returns it.
        table: which.
        columns: as `needed` returns them.
        told: how much was read, and of how much.

    Raises:
        SourceDataError: a value is not of its type, a gz file ends early, a text is not UTF-8, the table is
            empty, a key repeats, or an ICD version is unknown. No value is quoted.
    """
    kinds = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    with transaction(con):
        con.execute(f"CREATE TABLE raw.{table} ({kinds})").fetchall()
        source.insert(con, table, columns, _insertion(table, columns), told)
        rows = _one(con, f"SELECT count(*) FROM raw.{table}")
        if not rows and table != "labevents":
            raise SourceDataError(f"{source.name(table)} has no rows; copy it again")
        con.execute("INSERT INTO loaded VALUES (?, ?)", [table, rows]).fetchall()
        if table in _KEYS:
            con.execute(f"CREATE OR REPLACE TABLE raw.{table} AS SELECT DISTINCT * FROM raw.{table}").fetchall()
        problems = _broken_keys(con, source, table) + _unknown_versions(con, source, table)
        if problems:
            raise SourceDataError("; ".join(problems))


def release(source: Source, con: duckdb.DuckDBPyConnection) -> str:
    """Name the release that the columns, and for 3.x the years, speak for; `con` holds the loaded tables."""
    if "order_provider_id" not in source.columns("prescriptions"):
        return "MIMIC-IV before 2.2"
    years = con.execute("SELECT max(anchor_year_group) FROM raw.patients").fetchall()[0][0]
    number = "3.x" if years is not None and years >= "2020" else "2.2"
    few = _one(con, "SELECT count(*) FROM raw.patients") == _DEMO_PATIENTS
    return f"MIMIC-IV {number}{' demo' if few else ''}"


_DEMO_PATIENTS = 100


def _insertion(table: str, columns: Columns) -> str:
    """Return the INSERT of a table's rows, reading `{source}`."""
    names = ", ".join(columns)
    if table == "labevents":
        return f"INSERT INTO raw.labevents SELECT {names} FROM {{source}} SEMI JOIN seed.labs USING (itemid)"
    if table == "prescriptions" and not set(columns) <= set(TABLES[table]):
        [key] = set(columns) - set(TABLES[table])
        named = names.replace("drug,", "coalesce(drug_map.name, drug) AS drug,")
        return (
            f"INSERT INTO raw.prescriptions SELECT {named} FROM {{source}} "
            f"LEFT JOIN seed.drug_map AS drug_map ON drug_map.key = lpad({key}, {6 if key == 'gsn' else 11}, '0')"
        )
    return f"INSERT INTO raw.{table} SELECT {names} FROM {{source}}"


def _broken_keys(con: duckdb.DuckDBPyConnection, source: Source, table: str) -> list[str]:
    if table not in _KEYS:
        return []
    key = ", ".join(_KEYS[table])
    repeated = _one(con, f"SELECT count(*) FROM (SELECT 1 FROM raw.{table} GROUP BY {key} HAVING count(*) > 1)")
    missing = _one(
        con, f"SELECT count(*) FROM raw.{table} WHERE {' OR '.join(f'{name} IS NULL' for name in _KEYS[table])}"
    )
    problems = {
        f"{source.name(table)}: {repeated} values of {key} stand in rows that differ, wanted one each": repeated,
        f"{source.name(table)}: {missing} rows without {key}": missing,
    }
    return [problem for problem, found in problems.items() if found]


def _unknown_versions(con: duckdb.DuckDBPyConnection, source: Source, table: str) -> list[str]:
    if table not in ("diagnoses_icd", "d_icd_diagnoses"):
        return []
    rows = con.execute(
        f"SELECT coalesce(CAST(icd_version AS VARCHAR), 'none'), count(*) FROM raw.{table} "
        "WHERE icd_version IS NULL OR icd_version NOT IN (9, 10) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [f"{source.name(table)}: icd_version {version} in {count} rows, wanted 9 or 10" for version, count in rows]


def _one(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return con.execute(query).fetchall()[0][0]
