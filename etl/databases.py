"""MIMIC-IV in a database: a DuckDB file as mimic-code builds it, or PostgreSQL through DuckDB's extension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts
from etl.errors import SourceDataError

_SCHEMAS = ("mimiciv_hosp", "hosp", "main")
"""Where the tables may stand, as mimic-code names the schema first."""

_POSTGRES = ("postgresql://", "postgres://")
_ALIAS = "mimic"


@dataclass(frozen=True, slots=True)
class Database:
    """The tables of one schema of a database, attached read-only when they are read.

    Attributes:
        where: path or connection string; the latter is never shown, it may hold a password.
        schema: of the tables.
        tables: the columns of each.
        kind: duckdb or postgres.
    """

    where: str
    schema: str
    tables: dict[str, list[str]]
    kind: str

    @staticmethod
    def is_one(where: str | Path) -> bool:
        """Tell a database from a folder of files."""
        return str(where).startswith(_POSTGRES) or Path(where).is_file()

    @classmethod
    def open(cls, where: str | Path, tables: list[str]) -> Database:
        """Find the tables in the first schema that holds any of them.

        Raises:
            SourceDataError: the database cannot be opened, or tables are missing; all of them are named.
        """
        kind = "postgres" if str(where).startswith(_POSTGRES) else "duckdb"
        database = cls(str(where), "", {}, kind)
        with duckdb.connect() as con:
            database._attach(con)
            rows = con.execute(
                "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
                "WHERE database_name = ? ORDER BY ALL",
                [_ALIAS],
            ).fetchall()
        found: dict[str, dict[str, list[str]]] = {schema: {} for schema in _SCHEMAS}
        for schema, table, column in rows:
            found.setdefault(schema, {}).setdefault(table, []).append(column)
        schema = next((name for name in _SCHEMAS if found[name].keys() & set(tables)), _SCHEMAS[0])
        missing = [f"{schema}.{table}" for table in tables if table not in found[schema]]
        if missing:
            raise SourceDataError(
                f"{database._shown} lacks {', '.join(missing)}; wanted is a database as mimic-code builds it"
            )
        return cls(str(where), schema, {table: found[schema][table] for table in tables}, kind)

    @property
    def _shown(self) -> str:
        return self.where if self.kind == "duckdb" else "the PostgreSQL database"

    def name(self, table: str) -> str:
        """Return database and table."""
        return f"{self._shown}: {self.schema}.{table}"

    def columns(self, table: str) -> list[str]:
        """Return the names of the table's columns."""
        return self.tables[table]

    def stamps(self) -> dict[str, Any] | None:
        """Return the file's place, size and time of change; None for PostgreSQL."""
        if self.kind == "postgres":
            return None
        stat = Path(self.where).stat()
        return {"database": [str(Path(self.where).resolve()), stat.st_size, stat.st_mtime_ns]}

    def size(self, table: str) -> int:
        """Return 0: nobody knows."""
        return 0

    def digests(self) -> dict[str, str] | None:
        """Return the SHA-256 of a DuckDB file; of a PostgreSQL database nothing tells whether it changed."""
        return {"database": artefacts.sha256_file(Path(self.where))} if self.kind == "duckdb" else None

    def insert(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        columns: dict[str, str],
        into: str,
        told: Callable[[int, int], None],
    ) -> None:
        """Run `into` over the table's rows.

        Raises:
            SourceDataError: a column holds what is not of its type, or the file is damaged; no value is quoted.
        """
        self._attach(con)
        cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
        try:
            con.execute(into.format(source=f"(SELECT {cast} FROM {_ALIAS}.{self.schema}.{table})")).fetchall()
        except duckdb.ConversionException:
            kinds = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            raise SourceDataError(f"{self.name(table)} holds a value of another type than {kinds}") from None
        except duckdb.Error:
            if self._readable(table, columns):
                raise  # of the database that is written
            raise SourceDataError(f"{self.name(table)} is truncated or damaged; copy the database again") from None
        told(1, 1)

    def _readable(self, table: str, columns: dict[str, str]) -> bool:
        """Tell whether the table can be read to its end: DuckDB's error does not say which database it means."""
        with duckdb.connect() as con:
            self._attach(con)
            try:
                con.execute(f"SELECT max(hash({', '.join(columns)})) FROM {_ALIAS}.{self.schema}.{table}").fetchall()
            except duckdb.Error:
                return False
        return True

    def _attach(self, con: duckdb.DuckDBPyConnection) -> None:
        """Open the database, to be read only, beside the one that `con` writes.

        Raises:
            SourceDataError: it cannot be opened, or DuckDB has no extension for it; says how to export instead.
        """
        options = "READ_ONLY" if self.kind == "duckdb" else "TYPE postgres, READ_ONLY"
        if self.kind == "postgres":
            _load_postgres(con)
        try:
            where = self.where.replace("'", "''")
            con.execute(f"ATTACH IF NOT EXISTS '{where}' AS {_ALIAS} ({options})").fetchall()
        except duckdb.Error:  # its words may hold the connection string
            raise SourceDataError(
                f"{self._shown} cannot be opened; wanted is a folder that holds hosp/, "
                "or a database that no other program is writing"
            ) from None


def _load_postgres(con: duckdb.DuckDBPyConnection) -> None:
    try:
        con.execute("SET autoinstall_known_extensions = false").fetchall()  # nothing is fetched unasked
        con.execute("LOAD postgres").fetchall()
    except duckdb.Error:
        raise SourceDataError(
            f"DuckDB {duckdb.__version__} has no postgres extension here; where there is a network run "
            "`INSTALL postgres` in DuckDB once, or export each table with psql: "
            "\\copy mimiciv_hosp.patients to hosp/patients.csv csv header, and point --mimic at that folder"
        ) from None
