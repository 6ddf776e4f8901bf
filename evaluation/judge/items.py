"""What is judged: the drugs that the rows of an evaluation drafted, as units of a patient's stay and a drug.

A unit knows nothing of the list or the row it came from: the same drug for the same patient gets the same stored
verdict in every row. Drugs are asked by ingredient where the vocabulary knows them, by name where it does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl.artefacts import sha256, sha256_file
from etl.cohort import read_cohort, read_samples, to_admission
from etl.drug_vocabulary import DrugVocabulary, Level, read_drug_vocabulary
from etl.errors import ContractError
from etl.prompts import Outcome, render_prompt

_LABS = {"creatinine_mg_dl": ("Creatinine", "mg/dL"), "egfr": ("eGFR", "mL/min/1.73 m2")}
_LABS |= {"potassium_meq_l": ("Potassium", "mEq/L")}


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One question to the judge.

    Attributes:
        hadm_id: whose chart is shown.
        drug: what is asked about, as `Charts.label` names it.
        repeat: 0, or 1 where the same is asked once more.
    """

    hadm_id: int
    drug: str
    repeat: int = 0

    @property
    def item_id(self) -> str:
        """A name that says nothing of where the unit came from; a human's label carries it."""
        return sha256(f"{self.hadm_id}|{self.drug}|{self.repeat}".encode())[:16]


class Charts:
    """The stays of one split, as the judge sees them."""

    def __init__(self, samples: pl.DataFrame, vocabulary: DrugVocabulary) -> None:
        """Keep the samples, rows of samples.parquet, by hadm_id."""
        self.samples = {row["hadm_id"]: row for row in samples.iter_rows(named=True)}
        self.vocabulary = vocabulary
        self._rendered: dict[int, str] = {}

    def label(self, drug: str) -> str:
        """Return what a drug is asked as: its ingredients, or its own name where they are not known."""
        return " and ".join(self.vocabulary.labels(drug, Level.INGREDIENT))

    def subject(self, hadm_id: int) -> int:
        """Return whose stay it is."""
        return int(self.samples[hadm_id]["subject_id"])

    def drugs_on(self, hadm_id: int) -> list[str]:
        """Return the drugs the chart itself names: those so far, else those of the previous admission."""
        sample = self.samples[hadm_id]
        return sample["previous_drugs"] or [] if sample["current_drugs"] is None else sample["current_drugs"]

    def render(self, hadm_id: int) -> str:
        """Return the chart: what the model was told, and the last laboratory values where the cohort has them."""
        if hadm_id not in self._rendered:
            self._rendered[hadm_id] = render_chart(self.samples[hadm_id])
        return self._rendered[hadm_id]


def render_chart(sample: dict[str, Any]) -> str:
    """Return one stay as the judge reads it; the drugs of the stay, its answer, are not in it."""
    known = [(*_LABS[name], sample[name]) for name in _LABS if sample.get(name) is not None]
    labs = [f"{title}: {value:.1f} {unit}" for title, unit, value in known]
    return "\n".join([*labs, render_prompt(to_admission(sample))[1]["content"]])


def read_charts(cohort: Path, split: str) -> Charts:
    """Read one split of a cohort.

    Raises:
        ContractError: the cohort names drugs by ATC codes, which nobody can judge.
    """
    level = read_cohort(cohort)["settings"]["level"]
    if level not in (Level.DRUG, Level.INGREDIENT):
        raise ContractError(f"{cohort} names drugs by {level} codes; judge a cohort of --level drug or ingredient")
    users = cohort / "drug_map.csv"
    return Charts(read_samples(cohort, split), read_drug_vocabulary(users if users.is_file() else None))


def read_split(evaluation: Path, cohort: Path) -> str:
    """Return the split that an evaluation's drafts are of.

    Raises:
        ContractError: there are no drafts, or they are of another cohort or of several splits.
    """
    files = _predictions(evaluation)
    origins = [json.loads(pl.read_parquet_metadata(path).get("rxdraft", "{}")) for path in files]
    wanted, found = sha256_file(cohort / "cohort.json"), {origin.get("cohort_sha256") for origin in origins}
    if found - {wanted}:
        raise ContractError(f"{evaluation} drafted for another cohort than {cohort} ({wanted[:12]}); give its own")
    splits = {str(origin.get("split")) for origin in origins}
    if len(splits) != 1:
        raise ContractError(f"{evaluation} holds drafts of several splits ({', '.join(sorted(splits))}); keep one")
    return splits.pop()


def read_drafts(evaluation: Path, charts: Charts) -> pl.DataFrame:
    """Return every drafted drug of every row.

    Returns:
        row, subject_id, hadm_id, drug, label, weight: 1 over the visit's answers, where it was asked several times.
        An answer without a drug has one line with drug and label null; `listed` tells a list from a failure.

    Raises:
        ContractError: a draft is of a stay that the split does not hold.
    """
    rows = [_read_row(path) for path in _predictions(evaluation)]
    drafts = pl.concat(rows)
    strange = drafts.filter(~pl.col("hadm_id").is_in(list(charts.samples))).height
    if strange:
        raise ContractError(f"{evaluation} drafted for {strange} stays that the cohort does not hold; give its cohort")
    labels = {drug: charts.label(drug) for drug in drafts["drug"].drop_nulls().unique()}
    named = pl.col("drug").replace_strict(labels, default=None, return_dtype=pl.String)
    return drafts.with_columns(named.alias("label")).sort("row", "subject_id", "hadm_id", "drug", maintain_order=True)


def _predictions(evaluation: Path) -> list[Path]:
    found = sorted((evaluation / "predictions").glob("*.parquet"))
    if not found:
        raise ContractError(f"{evaluation} holds no drafts; make them with `rxdraft evaluate`")
    return found


def _read_row(path: Path) -> pl.DataFrame:
    kept = pl.read_parquet(path, columns=["subject_id", "hadm_id", "outcome", "drugs"])
    formed = [outcome.value for outcome in Outcome if outcome.well_formed]
    return (
        kept.with_columns(
            (1 / pl.len().over("hadm_id")).alias("weight"),
            pl.col("outcome").is_in(formed).alias("listed"),
            pl.when(pl.col("drugs").list.len() > 0).then("drugs").alias("drug"),
        )
        .explode("drug", empty_as_null=True)
        .select(pl.lit(path.stem).alias("row"), "subject_id", "hadm_id", "drug", "weight", "listed")
    )
