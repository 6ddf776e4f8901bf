"""Parquet files of DuckDB queries: the same rows in the same order, the same bytes on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """Open a database in memory, of one thread, so that rows fall into the same row groups everywhere."""
    return duckdb.connect(config={"threads": 1})


def copy(con: duckdb.DuckDBPyConnection, query: str, path: Path, **parameters: Any) -> int:
    """Write a query's rows as Parquet; return how many they are."""
    statement = f"COPY ({query}) TO $path (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)"
    return con.execute(statement, {**parameters, "path": str(path)}).fetchall()[0][0]
