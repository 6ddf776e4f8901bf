"""Evidence is looked up by the principal diagnosis, and is absent where nobody counted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from etl.domain import Admission, Diagnosis
from serving.evidence import FILE, CohortEvidence, Evidence

HEART = Diagnosis("I5020", 10)


@pytest.fixture
def evidence(tmp_path: Path) -> CohortEvidence:
    rows = [("I50", "aspirin", None, 120), ("I50", "furosemide", 84, 120), ("J18", "cefepime", 11, 12)]
    pl.DataFrame(rows, ["category", "drug", "ordered", "admissions"], orient="row").write_parquet(tmp_path / FILE)
    return CohortEvidence(tmp_path)


def test_a_count_a_hidden_one_and_none_at_all_are_three_things(evidence):
    found = evidence.of(Admission((HEART,)), ["furosemide", "aspirin", "cefepime"])
    assert found == [Evidence("I50", 84, 120), Evidence("I50", None, 120), Evidence("I50", 0, 120)]


def test_the_first_diagnosis_decides_in_either_version_of_the_icd(evidence):
    pneumonia = Diagnosis("J189", 10)
    assert evidence.of(Admission((pneumonia, HEART)), ["cefepime"]) == [Evidence("J18", 11, 12)]
    assert evidence.of(Admission((Diagnosis("42822", 9), pneumonia)), ["furosemide"]) == [Evidence("I50", 84, 120)]


@pytest.mark.parametrize(
    "diagnoses",
    [(), (Diagnosis(title="Heart failure"),), (Diagnosis(title="unwell"), HEART), (Diagnosis("Q999", 10),)],
    ids=["none", "in words", "first in words", "of too few patients"],
)
def test_without_a_principal_diagnosis_that_was_counted_there_is_none(evidence, diagnoses):
    assert evidence.of(Admission(diagnoses), ["furosemide", "aspirin"]) == [None, None]


def test_a_folder_without_counts_has_no_evidence(tmp_path):
    assert CohortEvidence(tmp_path).of(Admission((HEART,)), ["furosemide"]) == [None]


def test_a_checkpoint_takes_the_cohorts_evidence_along(tiny_cohort, checkpoint):
    assert (checkpoint / "vocabulary" / FILE).read_bytes() == (tiny_cohort / FILE).read_bytes()
