"""Drafts for a Parquet file of admissions: part by part, so that a killed run goes on, and bad rows lose nothing.

A part's bytes depend on its rows and on the model, not on who drafts it: this process, or workers of a cluster.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts, kept
from serving.batch.job import Job, read_parts
from serving.batch.rows import NO_ANSWER, about, draft_rows
from serving.recommendation import Drafter

_ABOUT = "rxdraft.about"
"""Of a part's metadata: who drafted it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows.

    Attributes:
        drafted: rows with a draft; of them not_well_formed: the model's answer was no list.
        refused: rows that fit no request.
        unanswered: rows a server gave no answer to; the same command asks for them again.
        not_in_formulary: drugs or drafted lines that no training admission had, told in the column warnings.
    """

    drafted: int
    refused: int
    unanswered: int
    not_well_formed: int
    not_in_formulary: int


def predict(job: Job, recommender: Drafter, told: Callable[[int, int], None]) -> Counts:
    """Draft what no earlier run has drafted, and join it.

    Args:
        job: as planned.
        recommender: who drafts.
        told: told (rows done, all).
    """

    def drafted(missing: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for number, facts in read_parts(job, missing):
            yield number, draft_part(job, recommender, number, facts)

    return collect(job, drafted, told)


def draft_part(job: Job, recommender: Drafter, number: int, facts: pl.DataFrame | None = None) -> bytes:
    """Return a part as Parquet; without its rows at hand they are read."""
    if facts is None:
        [(_, facts)] = read_parts(job, [number])
    table = draft_rows(recommender, facts, number * job.part_rows, chances=job.chances)
    unanswered = int(table["error"].str.starts_with(NO_ANSWER).sum())
    if job.identifier is not None:
        table.insert_column(0, facts[job.identifier])
    said = {_ABOUT: json.dumps(about(recommender, chances=job.chances), sort_keys=True)}
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=kept.metadata(_of_part(job, unanswered)) | said)
    return buffer.getvalue()


def collect(
    job: Job, drafted: Callable[[Sequence[int]], Iterator[tuple[int, bytes]]], told: Callable[[int, int], None]
) -> Counts:
    """Keep every part that is drafted, and join all of them when none is missing.

    Args:
        job: as planned.
        drafted: gives the parts of these numbers, in any order.
        told: told (rows done, all).
    """
    if (counts := standing(job)) is not None:
        told(job.rows, job.rows)
        return counts
    missing = [number for number in job.parts if not _is_kept(job.path(number), _of_part(job, 0))]
    done = job.rows - sum(map(job.rows_of, missing))
    told(done, job.rows)
    for number, content in drafted(missing) if missing else ():
        with artefacts.whole_or_absent(job.path(number)) as new:
            new.write_bytes(content)
        done += job.rows_of(number)
        told(done, job.rows)
    return _join(job)


def standing(job: Job) -> Counts | None:
    """Return what became of the rows if `out` is this job's and every row is settled."""
    return _count(job.out) if _is_kept(job.out, _of_part(job, 0)) else None


def _join(job: Job) -> Counts:
    paths = [job.path(number) for number in job.parts]
    said = json.loads(pl.read_parquet_metadata(paths[0])[_ABOUT])
    counts = _count(paths)
    origin = {**_of_part(job, counts.unanswered), **said}
    with artefacts.whole_or_absent(job.out) as new:
        pl.scan_parquet(paths).sink_parquet(new, metadata=kept.metadata(origin))
    if not counts.unanswered:
        artefacts.remove(job.folder)
    return counts


def _of_part(job: Job, unanswered: int) -> dict[str, Any]:
    """Return what a part is made of; one with rows left unanswered is never taken for a settled one."""
    return {**job.origin, "unanswered": unanswered}


def _is_kept(path: Path, origin: dict[str, Any]) -> bool:
    """Tell whether a file is whole and of this origin; what it says beyond that does not count."""
    try:
        told = json.loads(pl.read_parquet_metadata(path).get("rxdraft", "{}"))
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return False
    return isinstance(told, dict) and all(told.get(key) == value for key, value in origin.items())


def _count(drafts: Path | list[Path]) -> Counts:
    error, warnings = pl.col("error"), pl.col("warnings")
    unanswered = error.str.starts_with(NO_ANSWER)
    found = pl.scan_parquet(drafts).select(
        drafted=pl.col("outcome").count(),
        refused=(error.is_not_null() & ~unanswered).sum(),
        unanswered=unanswered.sum(),
        not_well_formed=(~pl.col("outcome").str.starts_with("ok")).sum(),
        not_in_formulary=warnings.list.count_matches("not_in_formulary").sum(),
    )
    return Counts(**found.collect(engine="streaming").row(0, named=True))
