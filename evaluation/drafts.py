"""Where the rows of the table come from: checkpoints, baselines, the oracle, probes; one row's drafts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ContractError
from etl.prompts import Outcome, render_answer
from evaluation.lengths import oracle
from evaluation.predict import SCHEMA
from evaluation.statistics.ratios import Floats
from serving.baselines.baseline import BATCH
from serving.baselines.design import Visits
from serving.baselines.fit import fit

SERVED = "served"
"""The row of the checkpoint chosen on validation as `rxdraft serve` has it: the recommender that a user gets."""


class Kind(StrEnum):
    """What a row of the table is."""

    CHECKPOINT = "checkpoint"
    PRODUCT = "product"
    BASELINE = "baseline"
    STRATEGY = "strategy"
    PROBE = "probe"
    ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Row:
    """Who drafted: a checkpoint of a rank and step, or something else by name."""

    name: str
    kind: Kind
    rank: int | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Drafted:
    """One row's drafts.

    Attributes:
        row: whose.
        drafts: with the columns of `evaluation/predict.py`, in the order of the samples.
        scores: of each drug, (visits, formulary), where the row has some.
        probable: the scores are probabilities.
    """

    row: Row
    drafts: pl.DataFrame
    scores: Floats | None = None
    probable: bool = False


def draft_baselines(
    names: Sequence[str],
    training: Visits,
    validation: Visits,
    samples: pl.DataFrame,
    visits: Visits,
    lengths: Sequence[int] | None,
    keep: Path,
) -> Iterator[Drafted]:
    """Draft as baselines do, one after another.

    Args:
        names: of `serving.baselines.fit`.
        training, validation: what they learn from.
        samples, visits: what is drafted for.
        lengths: of each list, (visits,); None: as each is served, cut where F1 was highest on validation.
        keep: folder that keeps what takes long to fit.
    """
    for name in names:
        baseline = fit(name, training, validation, keep)
        lists = [draft.answer.drugs for draft in baseline.recommend(visits.admissions, lengths)]
        scores = np.empty((len(lists), len(baseline.formulary)))
        for start in range(0, len(lists), BATCH):
            scores[start : start + BATCH] = baseline.scores(visits.admissions[start : start + BATCH])
        yield Drafted(Row(name, Kind.BASELINE), as_drafts(samples, lists), scores, baseline.probable)


def draft_oracle(path: Path, samples: pl.DataFrame, formulary: Sequence[str]) -> Drafted:
    """Draft as one who knows the chance of every drug.

    Args:
        path: oracle.parquet of a synthetic hospital.
        samples: what is drafted for.
        formulary: the columns of the scores.

    Raises:
        ContractError: the file is no oracle, or knows nothing of these admissions.
    """
    try:
        known = pl.read_parquet(path).select("hadm_id", "drugs", "chances")
        known = known.join(samples.select("hadm_id"), on="hadm_id", how="semi")
    except (OSError, pl.exceptions.PolarsError):
        raise ContractError(f"{path} is not the oracle.parquet of `rxdraft synth`") from None
    by_stay = {hadm_id: (drugs, chances) for hadm_id, drugs, chances in known.iter_rows()}
    if missing := sum(hadm_id not in by_stay for hadm_id in samples["hadm_id"]):
        raise ContractError(f"{path} knows nothing of {missing} admissions; it is another hospital's")
    place, scores = {drug: i for i, drug in enumerate(formulary)}, np.zeros((samples.height, len(formulary)))
    for row, hadm_id in zip(scores, samples["hadm_id"], strict=True):
        for drug, chance in zip(*by_stay[hadm_id], strict=True):
            if drug in place:
                row[place[drug]] = chance
    lists = [oracle(*by_stay[hadm_id]) for hadm_id in samples["hadm_id"]]
    return Drafted(Row("oracle", Kind.ORACLE), as_drafts(samples, lists), scores, probable=True)


def with_chances(row: Row, drafts: pl.DataFrame) -> Drafted:
    """Take a recommender's chances of all drugs as scores, where it knows them."""
    if drafts["chances"].null_count():
        return Drafted(row, drafts)
    flat = drafts["chances"].explode().to_numpy().astype(np.float64)
    return Drafted(row, drafts, flat.reshape(drafts.height, -1), probable=True)


def draft_votes(row: Row, drafts: pl.DataFrame, formulary: Sequence[str]) -> Drafted:
    """Take a strategy's vote shares as probabilities, where it asked more than once."""
    if drafts["candidates"].count() < drafts.height:
        return Drafted(row, drafts)
    place, scores = {drug: i for i, drug in enumerate(formulary)}, np.zeros((drafts.height, len(formulary)))
    for at, names, shares in zip(scores, drafts["candidates"], drafts["candidate_votes"], strict=True):
        for drug, share in zip(names, shares, strict=True):
            if drug in place:
                at[place[drug]] = share
    return Drafted(row, drafts, scores, probable=True)


def as_drafts(samples: pl.DataFrame, lists: Sequence[Sequence[str]]) -> pl.DataFrame:
    """Return lists as a model that writes them would have given them."""
    rows: dict[str, Any] = {
        "subject_id": samples["subject_id"],
        "hadm_id": samples["hadm_id"],
        "outcome": [(Outcome.OK if drugs else Outcome.OK_EMPTY_LIST).value for drugs in lists],
        "drugs": [list(drugs) for drugs in lists],
        "repeats": [0] * len(lists),
        "dropped_diagnoses": [0] * len(lists),
        "text": [render_answer(drugs) for drugs in lists],
        "chances": [None] * len(lists),
    }
    return pl.DataFrame(rows, schema=SCHEMA)
