"""What `rxdraft predict` is asked to draft: a Parquet file of admissions, looked over and cut into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.errors import ConfigError
from serving.batch.rows import FACTS

PART = 256
"""Rows drafted between two files: what a kill can cost."""

_PARTS_READ = 16
"""Parts read at once: to reach a row, those before it in its row group are decoded."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to draft for, looked over. It names files and holds none, so it can go to other machines.

    Attributes:
        source: Parquet; out: what is written, a row for each in the same order.
        identifier: column copied into `out`; None: none.
        chances: whether `out` tells every formulary drug's probability.
        rows, columns: of `source`; those that are read.
        part_rows: rows of a part.
        origin: all that decides the drafts.
    """

    source: Path
    out: Path
    identifier: str | None
    chances: bool
    rows: int
    columns: tuple[str, ...]
    part_rows: int
    origin: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the parts lie until `out` is whole."""
        return self.out.with_name(f".{self.out.name}.parts")

    @property
    def parts(self) -> range:
        """Numbers of all parts; one of an empty file, too."""
        return range(max(1, -(-self.rows // self.part_rows)))

    def path(self, number: int) -> Path:
        """Return where a part lies."""
        return self.folder / f"{number:06d}.parquet"

    def rows_of(self, number: int) -> int:
        """Return how many rows a part has."""
        return min(self.part_rows, self.rows - number * self.part_rows)


def plan(source: Path, out: Path, identifier: str | None, model: dict[str, Any], *, chances: bool = False) -> Job:
    """Look a file over.

    Args:
        source: columns are `FACTS`, and others, which are not read; at least one of diagnoses.
        out, identifier, chances: as in `Job`.
        model: all that decides what is drafted for a row, as JSON takes it.

    Raises:
        ConfigError: the file is no Parquet, or lacks a column.
    """
    rows, columns = _columns(source, identifier)
    origin = {
        "source_sha256": artefacts.sha256_file(source),
        "rxdraft": version("rxdraft"),
        "drafted_by": model,
        "identifier": identifier,
        "chances": chances,
        "part_rows": PART,
    }
    return Job(source, out, identifier, chances, rows, tuple(columns), PART, origin)


def read_parts(job: Job, numbers: Sequence[int]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield parts' rows, reading a few parts at a time."""
    scanned, size = pl.scan_parquet(job.source).select(job.columns), job.part_rows
    for first in _stretches(numbers):
        table = scanned.slice(first[0] * size, len(first) * size).collect()
        for place, number in enumerate(first):
            yield number, table.slice(place * size, size)


def _stretches(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Cut numbers into runs without a gap, none longer than `_PARTS_READ`."""
    stretch: list[int] = []
    for number in numbers:
        if stretch and (number != stretch[-1] + 1 or len(stretch) == _PARTS_READ):
            yield stretch
            stretch = []
        stretch.append(number)
    if stretch:
        yield stretch


def _columns(source: Path, identifier: str | None) -> tuple[int, list[str]]:
    """Return how many rows a file has, and its columns that are read."""
    try:
        scanned = pl.scan_parquet(source)
        names = scanned.collect_schema().names()
        rows = int(scanned.select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError):
        raise ConfigError(f"{source} is no Parquet file of admissions") from None
    if identifier is not None and identifier not in names:
        raise ConfigError(f"{source} has no column {identifier}; --id names one of its columns")
    fields = [name for name in FACTS if name in names]
    if not {"diagnoses", "earlier_diagnoses"} & set(fields):
        raise ConfigError(f"{source} has neither a column diagnoses nor earlier_diagnoses; see docs/formats.md")
    return rows, list(dict.fromkeys([*fields, *([identifier] if identifier else [])]))
