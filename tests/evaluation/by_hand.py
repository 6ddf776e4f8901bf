"""Small tables of visits whose every number can be worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from etl.drug_vocabulary import read_drug_vocabulary
from evaluation.drafts import Drafted, Kind, Row
from evaluation.interactions import SEVERITIES, Interactions
from evaluation.ladder import Projection
from evaluation.predict import SCHEMA
from evaluation.visits import Truth

FORMULARY = (
    *("acetaminophen", "furosemide", "simvastatin", "metoprolol tartrate", "warfarin", "oxycodone", "lorazepam"),
    *("senna", "heparin", "omeprazole"),
)
"""Commonest first: two drugs to each fifth."""
STRANGERS = ("torsemide", "adde")
"""Not of the formulary: one that is known, and one that nobody knows."""

Lists = Sequence[Sequence[str]]


def samples_of(
    truths: Lists, subjects: Sequence[int], previous: Sequence[Sequence[str] | None] | None = None, **columns: Any
) -> pl.DataFrame:
    """Visits with these answers; hadm_id counts from 100."""
    n = len(truths)
    facts: dict[str, Any] = {
        "subject_id": list(subjects),
        "hadm_id": list(range(100, 100 + n)),
        "sex": ["F"] * n,
        "age": [50] * n,
        "race": ["WHITE"] * n,
        "admission_type": ["URGENT"] * n,
        "diagnoses": [[{"icd_code": "I509", "icd_version": 10, "title": None}]] * n,
        "drugs": [list(drugs) for drugs in truths],
        "previous_drugs": list(previous) if previous else [None] * n,
    }
    return pl.DataFrame(
        facts | columns, schema_overrides={"drugs": pl.List(pl.String), "previous_drugs": pl.List(pl.String)}
    )


def drafts_of(samples: pl.DataFrame, lists: Lists, outcomes: Sequence[str], repeats: Sequence[int]) -> pl.DataFrame:
    """Drafts as `predict` keeps them."""
    return pl.DataFrame(
        {
            "subject_id": samples["subject_id"],
            "hadm_id": samples["hadm_id"],
            "outcome": list(outcomes),
            "drugs": [list(drugs) for drugs in lists],
            "repeats": list(repeats),
            "dropped_diagnoses": [0] * samples.height,
            "text": [""] * samples.height,
            "chances": [None] * samples.height,
        },
        schema=SCHEMA,
    )


@cache
def vocabulary() -> tuple[Projection, Interactions]:
    """The shipped vocabulary, and a source by which opioids and benzodiazepines should not meet."""
    drugs = read_drug_vocabulary()
    return Projection(drugs), Interactions({("n02a", "n05ba"): SEVERITIES.index("major")}, drugs, "by hand")


def truth_of(samples: pl.DataFrame, formulary: Sequence[str] = FORMULARY) -> Truth:
    """The truth of these visits."""
    return Truth(samples, formulary, *vocabulary())


def table_of(truth: Truth, rows: Mapping[str, Sequence[Sequence[str] | None]]) -> pl.DataFrame:
    """The per-visit table of rows by name; None: the answer was no list."""
    return pl.concat([truth.count(drafted_of(truth.samples, name, lists)) for name, lists in rows.items()])


def drafted_of(samples: pl.DataFrame, name: str, lists: Sequence[Sequence[str] | None]) -> Drafted:
    """One row's drafts; `rank-R-step-S` is a checkpoint, any other name a baseline."""
    outcomes = ["truncated" if drugs is None else "ok" if drugs else "ok_empty_list" for drugs in lists]
    drafts = drafts_of(samples, [drugs or () for drugs in lists], outcomes, [0] * len(lists))
    if name.startswith("rank-"):
        _, rank, _, step = name.split("-")
        return Drafted(Row(name, Kind.CHECKPOINT, int(rank), int(step)), drafts)
    return Drafted(Row(name, Kind.BASELINE), drafts)


def world_of(hits: Mapping[str, float], patients: int = 30, seed: int = 0, **columns: Any) -> pl.DataFrame:
    """The table of rows that draft five drugs for each of two visits a patient, where five were ordered.

    Args:
        hits: of the five, how many each row finds on average; by name.
        patients: how many.
        seed: of the truth and the drafts.
        columns: further columns of the samples, as many values as visits.
    """
    rng = np.random.default_rng(seed)
    shuffled = [[str(drug) for drug in rng.permutation(FORMULARY)] for _ in range(2 * patients)]
    samples = samples_of([drugs[:5] for drugs in shuffled], np.repeat(np.arange(patients), 2).tolist(), **columns)
    rows = {}
    for name, average in hits.items():
        found = rng.binomial(5, average / 5, len(shuffled))
        rows[name] = [drugs[5 - n : 10 - n] for drugs, n in zip(shuffled, found, strict=True)]
    return table_of(truth_of(samples), rows)
