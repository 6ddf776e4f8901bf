"""What the tests of the service stand on: checkpoints that answer with drugs, loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from serving.recommender import Recommender


@pytest.fixture(scope="session")
def checkpoint(taught_runs: Path) -> Path:
    """One of them."""
    return taught_runs / "rank-4" / "step-000004"


@pytest.fixture(scope="session")
def recommender(checkpoint: Path) -> Recommender:
    """That one, loaded."""
    from serving.recommender import load_recommenders

    return load_recommenders([checkpoint])[0]


@pytest.fixture(scope="session")
def body(tiny_cohort: Path, recommender: Recommender) -> dict[str, Any]:
    """An admission of the test split that gets a list of drugs, as the API takes it."""
    from etl.cohort import read_samples, to_admission

    facts = ("age", "sex", "height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg", "previous_drugs")
    samples = list(read_samples(tiny_cohort, "test").iter_rows(named=True))
    for sample, drafted in zip(samples, recommender.recommend([to_admission(s) for s in samples]), strict=True):
        if drafted.answer.drugs:
            coded = [{"icd_code": d["icd_code"], "icd_version": d["icd_version"]} for d in sample["diagnoses"]]
            return {"diagnoses": coded, **{name: sample[name] for name in facts}}
    raise AssertionError("the taught model gives no list at all; teach it for more steps")
