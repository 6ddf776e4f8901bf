"""Tables that were dear to make, kept as Parquet with their origin inside and reused only while it is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts

_KEY = "rxdraft"


def write(path: Path, table: pl.DataFrame, origin: dict[str, Any]) -> None:
    """Write a table, whole or not at all.

    Args:
        path: of the Parquet file.
        table: any.
        origin: all that decides the table's content, as JSON takes it.
    """
    with artefacts.whole_or_absent(path) as new:
        table.write_parquet(new, metadata=metadata(origin))


def metadata(origin: dict[str, Any]) -> dict[str, str]:
    """Return the file's metadata that tell its origin."""
    return {_KEY: json.dumps(origin, sort_keys=True)}


def read(path: Path, origin: dict[str, Any]) -> pl.DataFrame | None:
    """Return the table at `path` if it is of exactly this origin."""
    if not path.is_file():
        return None
    kept = pl.read_parquet_metadata(path).get(_KEY)
    return pl.read_parquet(path) if kept == json.dumps(origin, sort_keys=True) else None
