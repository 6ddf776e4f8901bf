"""What a cohort is asked to be: when the draft is asked for, what it may know, and what counts as its answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from etl.drug_vocabulary import CATEGORIES, DEFAULT_DROP, Level
from etl.errors import ConfigError


class PredictAt(StrEnum):
    """The moment a draft is asked for; nothing later enters a prompt, but for codes of `Codes.STAY`."""

    ADMISSION = "admission"
    DAY = "24h"
    DISCHARGE = "discharge"


class Codes(StrEnum):
    """Whose ICD codes are the diagnoses: this stay's, assigned after discharge, or those of earlier stays."""

    STAY = "stay"
    EARLIER = "earlier"
    BOTH = "both"


class SplitBy(StrEnum):
    """What decides who is test: a hash of the patient, the patient's years, or one of K folds of patients."""

    PATIENT = "patient"
    TIME = "time"
    FOLD = "fold"


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """The choices that change a cohort's content; each stands in cohort.json.

    Attributes:
        predict_at: see `PredictAt`. Drugs ordered after it are the answer; at admission and at discharge every
            order of the stay is.
        within_hours: only orders that start at most so long after the prediction time are the answer; None: all.
        codes: see `Codes`.
        level: what a drug is called: by its name, its ingredients, or a level of ATC.
        drop: categories of orders left out, of `etl.drug_vocabulary.CATEGORIES`.
        drug_map: the user's CSV of drug names, see `etl.drug_map`; None: none.
        split: see `SplitBy`.
        folds, fold: K, at least 3, and which of them, from 0, is test; for `SplitBy.FOLD`.
        seed: of the hash that deals out patients.
        labs: read creatinine and potassium from labevents.
        open_data: the source may be shown in full: small cells of the report are not suppressed.
    """

    predict_at: PredictAt = PredictAt.ADMISSION
    within_hours: int | None = None
    codes: Codes = Codes.STAY
    level: Level = Level.DRUG
    drop: tuple[str, ...] = DEFAULT_DROP
    drug_map: Path | None = None
    split: SplitBy = SplitBy.PATIENT
    folds: int = 5
    fold: int = 0
    seed: int = 0
    labs: bool = False
    open_data: bool = False

    def check(self) -> None:
        """See that the choices fit together.

        Raises:
            ConfigError: some do not; all of them are named.
        """
        unknown = sorted(set(self.drop) - set(CATEGORIES))
        problems = {
            f"--drop {', '.join(unknown)} is unknown, wanted of {', '.join(CATEGORIES)}": unknown,
            "--within-hours counts from the prediction time, after which --predict-at discharge has no order; "
            "choose admission or 24h": self.within_hours is not None and self.predict_at is PredictAt.DISCHARGE,
            f"--within-hours {self.within_hours} is below 1": self.within_hours is not None and self.within_hours < 1,
            f"--folds {self.folds} is below 3: one fold is test, one validation": self.folds < 3,
            f"--fold {self.fold} is not in 0 to {self.folds - 1}": not 0 <= self.fold < self.folds,
        }
        found = [problem for problem, wrong in problems.items() if wrong]
        if found:
            raise ConfigError("; ".join(found))

    def described(self) -> dict[str, Any]:
        """Return the choices as cohort.json holds them; settings that decide nothing here are None."""
        folded = self.split is SplitBy.FOLD
        return {
            "predict_at": self.predict_at.value,
            "within_hours": self.within_hours,
            "codes": self.codes.value,
            "level": self.level.value,
            "drop": sorted(self.drop),
            "split": self.split.value,
            "folds": self.folds if folded else None,
            "fold": self.fold if folded else None,
            "seed": None if self.split is SplitBy.TIME else self.seed,
            "labs": self.labs,
            "open_data": self.open_data,
        }
