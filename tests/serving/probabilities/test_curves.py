"""From scores to probabilities: never falling, never certain, and right about patients that were not fitted to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evaluation.statistics.calibration import Levels, equal_mass
from evaluation.statistics.calibration import ece as evaluated_ece
from serving.probabilities.curves import (
    FITS,
    LOGITS,
    Counts,
    Curve,
    Floats,
    Kind,
    brier,
    choose_curve,
    count,
    ece,
    fit_identity,
    fit_isotonic,
    fit_platt,
    log_loss,
    to_logits,
    to_probabilities,
)

SCORES = arrays(float, (20, 6), elements=st.floats(0, 1))
ORDERED = arrays(bool, (20, 6))
FOLD = np.arange(20) % 4


def hospital(bent: float = 1.0, moved: float = 0.0, admissions: int = 1500, seed: int = 0) -> tuple[Floats, Floats]:
    """Return scores whose logits are bent and moved, and what was ordered by the true probabilities."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(-1.5, 1.5, (admissions, 20))
    return to_probabilities(bent * logits + moved), (draw.random(logits.shape) < to_probabilities(logits)).astype(float)


def counted(scores: Floats, ordered: Floats, folds: int = 5) -> Counts:
    return count(scores, ordered, np.arange(len(scores)) % folds)


@given(SCORES, ORDERED, st.sampled_from(FITS))
def test_a_higher_score_never_gets_a_lower_probability_and_nothing_is_certain(scores, ordered, fit):
    n, y = count(scores, ordered.astype(float), FOLD)
    curve = fit(Counts(n.sum(axis=0), y.sum(axis=0)))
    p = curve(np.linspace(0, 1, 501))
    assert (np.diff(p) >= 0).all()
    assert ((p > 0) & (p < 1)).all()


@given(SCORES, ORDERED)
def test_every_drug_is_counted_once_at_the_level_of_its_score(scores, ordered):
    counts = count(scores, ordered.astype(float), FOLD)
    for fold in range(4):
        chosen = scores[fold == FOLD].ravel()
        expected = np.zeros(len(LOGITS))
        np.add.at(expected, [np.abs(LOGITS - logit).argmin() for logit in to_logits(chosen)], 1)
        assert counts.n[fold].sum() == expected.sum() == len(chosen)
        assert np.abs(np.cumsum(counts.n[fold] - expected)).max() <= 1  # a score between two levels may go to either
    assert counts.y.sum() == ordered.sum()
    assert (counts.y <= counts.n).all()


@given(st.floats(0.001, 0.999))
def test_a_score_is_taken_for_its_probability_until_it_is_calibrated(score):
    assert Curve()(np.array([score]))[0] == pytest.approx(score)


@pytest.mark.parametrize(("bent", "moved"), [(1.0, 0.0), (2.5, 0.5), (0.4, -1.0)])
def test_platt_finds_the_line_that_bent_the_scores(bent, moved):
    n, y = counted(*hospital(bent, moved))
    curve = fit_platt(Counts(n.sum(axis=0), y.sum(axis=0)))
    assert curve.slope == pytest.approx(1 / bent, rel=0.05)
    assert curve.intercept == pytest.approx(-moved / bent, abs=0.06)


def test_where_high_scores_are_wrong_platt_says_the_rate_and_nothing_else():
    scores, ordered = hospital()
    n, y = counted(1 - scores, ordered)
    curve = fit_platt(Counts(n.sum(axis=0), y.sum(axis=0)))
    assert curve.slope == 0
    assert curve(scores) == pytest.approx(ordered.mean(), abs=1e-3)


def test_isotonic_follows_any_curve_that_rises():
    scores, ordered = hospital(admissions=4000)
    bent = scores**3 / 2  # no straight line in the logit
    n, y = counted(bent, ordered)
    curve = fit_isotonic(Counts(n.sum(axis=0), y.sum(axis=0)))
    asked = np.array([0.02, 0.1, 0.3, 0.6, 0.8])
    assert curve(asked**3 / 2) == pytest.approx(asked, abs=0.04)


def test_three_of_three_are_no_certainty():
    n, y = np.zeros((2, len(LOGITS)))
    n[[1000, 1500, 2500]] = 1000, 200, 3
    y[[1000, 1500, 2500]] = 100, 100, 3
    [_, _, (_, highest)] = fit_isotonic(Counts(n, y)).knots
    assert 0.7 < highest < 0.9


@pytest.mark.parametrize(("bent", "moved"), [(2.5, 0.5), (0.4, -1.0), (1.0, 1.0)])
def test_held_out_patients_get_better_probabilities_than_the_scores_were(bent, moved):
    counts = counted(*hospital(bent, moved))
    _, _, after = choose_curve(counts)
    before = np.broadcast_to(to_probabilities(LOGITS), after.shape)
    for figure in (log_loss, brier, ece):
        assert figure(after, counts) < figure(before, counts)
    assert ece(after, counts) < 0.01


def test_of_straight_scores_the_straight_curve_is_chosen_and_of_others_another():
    scores, ordered = hospital(2.5, 0.5, admissions=300)
    assert choose_curve(counted(scores, ordered))[0].kind is Kind.PLATT
    steps = np.where(scores < 0.5, 0.1 * scores, scores)
    assert choose_curve(counted(steps, ordered))[0].kind is Kind.ISOTONIC


def test_a_fold_is_told_by_a_curve_that_never_saw_it():
    scores, ordered = hospital(2.0, admissions=400)
    fold = np.arange(400) % 4
    _, straight, _ = choose_curve(count(scores, ordered, fold))
    changed = ordered.copy()
    changed[[2, 6]] = 1 - changed[[2, 6]]
    _, other, _ = choose_curve(count(scores, changed, fold))
    assert straight[2] == other[2]
    assert straight[1] != other[1]


@given(SCORES, ORDERED)
def test_the_calibration_error_is_the_evaluations(scores, ordered):
    n, y = count(scores, ordered.astype(float), FOLD)
    p = np.broadcast_to(to_probabilities(LOGITS), n.shape)
    there = n.sum(axis=0) > 0
    levels = Levels(to_probabilities(LOGITS[there]), n[:, there], y[:, there])
    assert ece(p, Counts(n, y)) == pytest.approx(evaluated_ece(equal_mass(levels)))


def test_the_figures_are_their_definitions():
    scores = np.array([[0.2, 0.8], [0.8, 0.8]])
    ordered = np.array([[0.0, 1.0], [1.0, 0.0]])
    counts = count(scores, ordered, np.array([0, 1]))
    p = np.broadcast_to(to_probabilities(LOGITS), counts.n.shape)
    assert log_loss(p, counts) == pytest.approx(-(3 * math.log(0.8) + math.log(0.2)) / 4, abs=5e-3)
    assert brier(p, counts) == pytest.approx((3 * 0.04 + 0.64) / 4, abs=5e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {"slope": -1.0},
        {"slope": math.nan},
        {"intercept": math.inf},
        {"kind": Kind.ISOTONIC},
        {"kind": Kind.ISOTONIC, "knots": ((0.0, 0.3), (1.0, 0.2))},
        {"kind": Kind.ISOTONIC, "knots": ((1.0, 0.3), (1.0, 0.4))},
        {"kind": Kind.ISOTONIC, "knots": ((0.0, 0.0), (1.0, 1.0))},
        {"kind": Kind.ISOTONIC, "knots": ((0.0, math.nan),)},
    ],
)
def test_a_curve_that_falls_or_is_certain_is_none(fields):
    with pytest.raises(ValueError, match="falls"):
        Curve(**fields)


def test_identity_is_fitted_to_nothing():
    assert fit_identity(counted(*hospital())) == Curve()
