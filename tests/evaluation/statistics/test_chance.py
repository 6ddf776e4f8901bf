"""Chance: against all pairs met one by one, and the open demo's measured values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from evaluation.ladder import Projection, Rule
from evaluation.statistics.chance import random_copy, skill
from evaluation.statistics.ratios import mean
from tests.evaluation.matching import match

lists = st.lists(
    st.tuples(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=5), st.integers(1, 4)), min_size=1, max_size=8
)


@given(lists, st.sampled_from(Rule))
def test_chance_is_the_mean_over_all_pairs_of_patients(visits, rule):
    truths, patients = [truth for truth, _ in visits], [patient for _, patient in visits]
    chance = random_copy(truths, patients, rule)
    for v, truth in enumerate(truths):
        scores = [_copied(copy, truth, rule) for copy, patient in visits if patient != patients[v]]
        expected = np.mean(scores, axis=0) if scores else [np.nan] * 3
        assert_allclose([chance.precision[v], chance.recall[v], chance.f1[v]], expected, atol=1e-12)


def _copied(copy: list[str | None], truth: list[str | None], rule: Rule) -> list[float]:
    p, t, tp, one = match(copy, truth)
    if rule is Rule.ONE_TO_ONE:
        p, t, tp = len(copy), len(truth), one
    return [tp / max(p, 1), tp / max(t, 1), 2 * tp / max(p + t, 1)]


def test_skill_is_0_at_chance_and_1_when_perfect():
    chance = np.array([0.2, 0.4, np.nan])
    assert skill(mean(chance), chance).value == pytest.approx(0)
    assert skill(mean([1, 1, 1]), chance).value == pytest.approx(1)
    assert skill(mean([0.5, 0.7, 0]), chance).value == pytest.approx((0.6 - 0.3) / 0.7)


@pytest.mark.demo_data
def test_chance_on_the_demo_is_the_measured_one(mimic_demo: Path, tmp_path: Path):
    from etl.build import build_cohort
    from etl.drug_vocabulary import read_drug_vocabulary
    from etl.settings import CohortSettings

    build_cohort(mimic_demo, tmp_path / "run", CohortSettings(drop=()))
    visits = pl.read_parquet(tmp_path / "run" / "samples.parquet", columns=["subject_id", "drugs"])
    projection = Projection(read_drug_vocabulary())
    rungs = [projection.rungs(drugs) for drugs in visits["drugs"]]
    measured = {"drug": 0.270, "atc5": 0.311, "atc4": 0.362, "atc3": 0.437}
    for rung, precision in measured.items():
        found = random_copy([visit[rung] for visit in rungs], visits["subject_id"].to_list(), Rule.SET)
        assert np.mean(found.precision) == pytest.approx(precision, abs=0.002)
