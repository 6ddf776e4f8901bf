"""Examples: the nearest of other training patients, found as anybody would by comparing sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.cohort import read_samples
from etl.errors import ContractError
from evaluation.strategies.examples import Examples


@pytest.fixture(scope="module")
def training(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "train")


def categories(sample: dict[str, Any]) -> set[tuple[int, str]]:
    known = sample["diagnoses"] or sample["earlier_diagnoses"] or []
    return {(d["icd_version"], d["icd_code"][:3]) for d in known}


def by_hand(sample: dict[str, Any], training: pl.DataFrame, shots: int) -> list[int]:
    """Compare with every row in turn."""
    asked, scored = categories(sample), []
    for place, row in enumerate(training.iter_rows(named=True)):
        if row["subject_id"] != sample["subject_id"]:
            union = asked | categories(row)
            scored.append((-len(asked & categories(row)) / max(len(union), 1), place, row["hadm_id"]))
    return [hadm_id for _, _, hadm_id in sorted(scored)[:shots]]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("shots", [1, 3, 10_000])
def test_the_nearest_are_those_of_largest_overlap_among_other_patients(tiny_cohort, training, split, shots):
    examples = Examples(training)
    for sample in list(read_samples(tiny_cohort, split).iter_rows(named=True))[:20]:
        found = [row["hadm_id"] for row in examples.nearest(sample, shots)]
        assert found == by_hand(sample, training, shots)


def test_no_example_is_of_the_patient_who_is_asked_about(training):
    examples = Examples(training)
    several = training.filter(pl.col("subject_id").is_duplicated())
    assert several.height
    for sample in several.iter_rows(named=True):
        assert sample["subject_id"] not in {row["subject_id"] for row in examples.nearest(sample, 5)}


def test_where_the_stays_codes_are_not_known_earlier_ones_count(training):
    stays = training.filter(pl.col("diagnoses").list.len() > 0)
    moved = stays.with_columns(earlier_diagnoses="diagnoses", diagnoses=pl.lit([], dtype=stays.schema["diagnoses"]))
    for row, same in zip(stays.iter_rows(named=True), moved.iter_rows(named=True), strict=True):
        wanted = [found["hadm_id"] for found in Examples(stays).nearest(row, 2)]
        assert [found["hadm_id"] for found in Examples(moved).nearest(same, 2)] == wanted
        break


def test_an_admission_without_any_code_still_gets_examples_of_the_form(training):
    sample = training.row(0, named=True) | {"diagnoses": [], "earlier_diagnoses": None, "subject_id": -1}
    assert [row["hadm_id"] for row in Examples(training).nearest(sample, 2)] == training["hadm_id"].to_list()[:2]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_rows_of_another_split_are_never_shown(tiny_cohort, training, split):
    with pytest.raises(ContractError, match=f"split {split}"):
        Examples(pl.concat([training, read_samples(tiny_cohort, split)]))
