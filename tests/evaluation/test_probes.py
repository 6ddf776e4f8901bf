"""Probes: the placebo never leaves a patient his own note, and the flip turns sex alone."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError
from evaluation.probes import flip_sex, swap_notes

patients = st.lists(st.integers(1, 6), min_size=1, max_size=24)


def visits_of(subjects: list[int]) -> pl.DataFrame:
    """Visits whose facts tell whose they are."""
    n = len(subjects)
    return pl.DataFrame(
        {
            "subject_id": subjects,
            "hadm_id": range(100, 100 + n),
            "split": ["test"] * n,
            "age": [subject * 10 for subject in subjects],
            "note": [f"{subject}/{i}" for i, subject in enumerate(subjects)],
            "drugs": [[f"drug {i}"] for i in range(n)],
        }
    )


@given(patients)
def test_nobody_keeps_his_own_note_and_every_note_goes_to_one_visit(subjects):
    samples = visits_of(subjects)
    if 2 * max(Counter(subjects).values()) > len(subjects):
        with pytest.raises(ConfigError, match="more than half"):
            swap_notes(samples)
        return
    swapped = swap_notes(samples)
    givers = [int(note.split("/")[0]) for note in swapped["note"]]
    assert all(giver != taker for giver, taker in zip(givers, subjects, strict=True))
    assert sorted(swapped["note"]) == sorted(samples["note"])
    assert swapped["age"].to_list() == [giver * 10 for giver in givers]  # one giver gives all facts


@given(patients)
def test_the_truth_stays_with_its_visit(subjects):
    samples = visits_of([*subjects, *[s + 10 for s in subjects]])
    kept = ["subject_id", "hadm_id", "split", "drugs"]
    assert swap_notes(samples).select(kept).equals(samples.select(kept))
    assert swap_notes(samples).columns == samples.columns
    assert swap_notes(samples).equals(swap_notes(samples))


def test_a_single_patient_has_nobody_to_swap_with():
    with pytest.raises(ConfigError, match="leave it out of --rows"):
        swap_notes(visits_of([7, 7]))


def test_a_swapped_note_tells_nothing_of_the_patient(tiny_cohort):
    samples = read_samples(tiny_cohort, "test")
    swapped = swap_notes(samples)
    own: dict[int, list[object]] = {}
    for subject, sample in zip(samples["subject_id"], samples.iter_rows(named=True), strict=True):
        own.setdefault(subject, []).append(to_admission(sample))
    for subject, sample in zip(swapped["subject_id"], swapped.iter_rows(named=True), strict=True):
        assert to_admission(sample) not in own[subject]


def test_flipping_turns_sex_and_nothing_else():
    samples = pl.DataFrame({"hadm_id": [1, 2, 3, 4], "sex": ["F", "M", None, "U"]})
    assert flip_sex(samples)["sex"].to_list() == ["M", "F", None, "U"]
    assert flip_sex(flip_sex(samples)).equals(samples)
    assert flip_sex(samples).drop("sex").equals(samples.drop("sex"))
