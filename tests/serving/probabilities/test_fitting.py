"""The rule by which lists are cut is chosen by what it is worth to patients it was not chosen by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.probabilities.calibration import Calibration
from serving.probabilities.curves import choose_curve, count, to_probabilities
from serving.probabilities.cut import Cut, Floats, Rule
from serving.probabilities.fitting import THRESHOLDS, Outcomes, fit


def hospital(bent: float = 1.0, admissions: int = 400, seed: int = 0) -> tuple[Floats, Outcomes]:
    """Return scores whose logits are bent, and what was ordered by the true probabilities."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(-1.0, 1.5, (admissions, 20))
    ordered = (draw.random(logits.shape) < to_probabilities(logits)).astype(float)
    drugs = np.maximum(ordered.sum(axis=1), 1).astype(np.int64)
    return to_probabilities(bent * logits), Outcomes(ordered, drugs, np.arange(admissions) % 5)


def each_f1(scores: Floats, chances: Floats, outcomes: Outcomes, cut: Cut) -> Floats:
    """Return the F1 of the lists as a recommender would draft them, one by one."""
    found = []
    for score, chance, ordered, drugs in zip(scores, chances, outcomes.ordered, outcomes.drugs, strict=True):
        length = cut.length(chance)
        found.append(2 * ordered[np.argsort(-score, kind="stable")[:length]].sum() / (length + drugs))
    return np.array(found)


def mean_f1(scores: Floats, outcomes: Outcomes, calibration: Calibration) -> float:
    return float(each_f1(scores, calibration.apply(scores), outcomes, calibration.cut).mean())


@pytest.mark.parametrize("bent", [0.3, 3.0])
def test_bent_scores_are_straightened_and_their_lists_get_better(bent):
    found = fit(*hospital(bent))
    before, after = found.before, found.after
    assert after.log_loss < before.log_loss
    assert after.brier < before.brier
    assert after.ece < before.ece
    assert after.f1 >= before.f1


def test_true_probabilities_are_made_no_worse():
    found = fit(*hospital())
    assert found.after.log_loss <= found.before.log_loss + 1e-3
    assert found.after.ece <= 0.02


def test_the_figure_before_is_that_of_drafts_without_calibration():
    scores, outcomes = hospital(2.0)
    assert fit(scores, outcomes).before.f1 == pytest.approx(mean_f1(scores, outcomes, Calibration()), rel=1e-5)


def test_held_out_figures_are_near_those_on_another_hospital():
    found = fit(*hospital(2.0, admissions=1000))
    other = mean_f1(*hospital(2.0, admissions=1000, seed=1), Calibration(found.curve, found.cut))
    assert found.after.f1 == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_patients_f1_owes_nothing_to_a_curve_or_a_threshold_fitted_to_the_patient(seed):
    scores, outcomes = hospital(2.0, admissions=25, seed=seed)
    _, held_out, _ = choose_curve(count(scores, outcomes.ordered, outcomes.fold))
    chances = np.stack([held_out[fold](row) for row, fold in zip(scores, outcomes.fold, strict=True)])
    tried = np.array([each_f1(scores, chances, outcomes, Cut(Rule.THRESHOLD, at)) for at in THRESHOLDS])
    best = [tried[:, outcomes.fold != fold].mean(axis=1).argmax() for fold in outcomes.fold]
    threshold = tried[best, np.arange(25)].mean()
    expected = each_f1(scores, chances, outcomes, Cut()).mean()
    assert fit(scores, outcomes).after.f1 == pytest.approx(max(threshold, expected), rel=1e-5)


def test_a_bound_on_wrong_drugs_is_kept_as_asked():
    scores, outcomes = hospital()
    found = fit(scores, outcomes, false_positives=1.5)
    assert found.cut == Cut(Rule.FALSE_POSITIVES, 1.5)
    lengths = found.cut.lengths(found.curve(scores))
    ranked = np.take_along_axis(outcomes.ordered, np.argsort(-scores, axis=1), axis=1)
    hits = ranked.cumsum(axis=1)[np.arange(len(scores)), lengths - 1]
    assert 1.0 < np.mean(lengths - hits) < 1.6


def test_where_everything_is_ordered_lists_are_whole():
    scores, outcomes = hospital()
    everything = replace(outcomes, ordered=np.ones_like(outcomes.ordered), drugs=np.full(400, 20))
    found = fit(scores, everything)
    assert found.after.f1 == 1
    assert found.cut == Cut()  # a threshold is as good; of equals the simpler


def test_where_most_drugs_come_together_a_threshold_is_worth_more():
    draw = np.random.default_rng(0)
    many = draw.random((400, 1)) < 0.5  # an admission has all of the ten doubtful drugs or none, and one in any case
    ordered = np.hstack([np.ones((400, 1)), np.repeat(many, 10, axis=1)]).astype(float)
    scores = np.tile([0.99] + [0.4] * 10, (400, 1))
    found = fit(scores, Outcomes(ordered, ordered.sum(axis=1).astype(np.int64), np.arange(400) % 5))
    assert found.cut.rule is Rule.THRESHOLD
    assert found.after.f1 > found.before.f1


@settings(max_examples=20)
@given(st.integers(0, 5), st.randoms())
def test_the_order_of_admissions_changes_nothing_but_rounding(seed, random):
    scores, outcomes = hospital(2.0, admissions=60, seed=seed)
    order = list(range(60))
    random.shuffle(order)
    shuffled = Outcomes(outcomes.ordered[order], outcomes.drugs[order], outcomes.fold[order])
    one, other = fit(scores, outcomes), fit(scores[order], shuffled)
    assert (one.curve, one.cut) == (other.curve, other.cut)
    assert one.after.f1 == pytest.approx(other.after.f1)
