"""Scores of drugs: the ranking against scikit-learn, probabilities against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, brier_score_loss

from evaluation import probabilities
from evaluation.metrics import BY_NAME
from evaluation.probabilities import LEVELS, SCHEMA, scored_columns, unscored_columns
from evaluation.statistics import calibration


@st.composite
def scored(draw: st.DrawFn):
    """Scores in hundredths, many alike, and what was ordered."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 8)))
    scores = draw(arrays.arrays(int, shape, elements=st.integers(0, 100))) / 100
    return scores, draw(arrays.arrays(bool, shape))


@given(scored())
def test_the_ranking_is_scored_as_by_scikit_learn(case):
    scores, ordered = case
    found = scored_columns(scores, ordered, ordered.sum(axis=1), probable=False)["average_precision"]
    for visit, value in enumerate(found):
        if ordered[visit].any():
            assert value == pytest.approx(average_precision_score(ordered[visit], scores[visit]), abs=1e-12)
        else:
            assert value == 0


@given(scored(), st.integers(1, 4))
def test_ordered_drugs_that_training_never_had_are_never_found(case, strangers):
    scores, ordered = case
    here = ordered.sum(axis=1)
    found = scored_columns(scores, ordered, here, probable=False)["average_precision"].to_numpy()
    with_strangers = scored_columns(scores, ordered, here + strangers, probable=False)["average_precision"].to_numpy()
    assert with_strangers * (here + strangers) == pytest.approx(found * here)


@given(scored())
def test_brier_counts_every_drug_of_the_formulary(case):
    scores, ordered = case
    found = scored_columns(scores, ordered, ordered.sum(axis=1), probable=True)
    assert found["brier_n"].to_list() == [scores.shape[1]] * len(scores)
    for visit, total in enumerate(found["brier_sum"]):
        loss = brier_score_loss(ordered[visit], scores[visit], pos_label=True)
        assert total / scores.shape[1] == pytest.approx(loss, abs=1e-12)


@given(scored())
def test_levels_hold_every_drug_once_and_give_the_same_brier_score(case):
    scores, ordered = case  # in hundredths, so that nothing is rounded
    found = scored_columns(scores, ordered, ordered.sum(axis=1), probable=True)
    for visit, (p, n, y) in enumerate(found.select("level_p", "level_n", "level_y").iter_rows()):
        assert p == sorted(set(np.round(scores[visit], 2)))
        assert (sum(n), sum(y)) == (scores.shape[1], ordered[visit].sum())
    by_level = calibration.brier(calibration.levels(found)).value
    assert by_level == pytest.approx(found["brier_sum"].sum() / found["brier_n"].sum(), abs=1e-12)


@given(scored())
def test_the_metric_is_the_expected_calibration_error_as_a_sum_over_a_sum(case):
    scores, ordered = case
    found = scored_columns(scores, ordered, ordered.sum(axis=1), probable=True)
    alone = calibration.ece(calibration.equal_mass(calibration.levels(found)))
    assert BY_NAME["ece"].of(found).value == pytest.approx(alone, abs=1e-12)


def test_rows_without_probabilities_have_no_calibration_error():
    assert BY_NAME["ece"].of(unscored_columns(3)).value is None


@given(scored())
def test_however_many_visits_are_worked_at_once_the_columns_are_the_same(case):
    scores, ordered = case
    whole = scored_columns(scores, ordered, ordered.sum(axis=1), probable=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probabilities, "_CHUNK", 2)
        assert scored_columns(scores, ordered, ordered.sum(axis=1), probable=True).equals(whole)


def test_mere_scores_have_a_ranking_and_no_probability():
    found = scored_columns(np.array([[7.0, -3.0]]), np.array([[True, False]]), np.array([1]), probable=False)
    assert found["average_precision"].to_list() == [1.0]
    assert found.drop("average_precision").null_count().row(0) == (1,) * 5


def test_probabilities_out_of_range_go_to_the_outermost_level():
    found = scored_columns(np.array([[-0.1, 1.2]]), np.array([[True, False]]), np.array([1]), probable=True)
    assert found["level_p"].to_list() == [[0.0, 1.0]]


def test_nothing_is_known_of_a_row_that_gives_lists_alone():
    found = unscored_columns(3)
    assert dict(found.schema) == SCHEMA
    assert found.null_count().row(0) == (3,) * len(SCHEMA)


def test_no_visit_has_columns_too():
    empty = scored_columns(np.zeros((0, 4)), np.zeros((0, 4), dtype=bool), np.zeros(0, dtype=int), probable=True)
    assert dict(empty.schema) == SCHEMA
    assert LEVELS == 100
