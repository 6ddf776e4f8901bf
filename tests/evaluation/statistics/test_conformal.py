"""Cuts: the promise kept on patients nobody has seen, and the choice by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evaluation.statistics.calibration import Levels
from evaluation.statistics.conformal import cut_for_false_positives, cut_for_recall

SHARES = np.arange(11) / 10


def hospital(patients: int, seed: int) -> tuple[Levels, np.ndarray]:
    """Votes of one to three visits a patient; patients differ in how much the votes know."""
    rng = np.random.default_rng(seed)
    subject_id = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    knows = rng.beta(2, 1, patients)[subject_id]
    n, y = np.zeros((2, len(subject_id), len(SHARES)))
    for visit, know in enumerate(knows):
        ordered = rng.random(60) < 0.3
        level = rng.binomial(10, np.where(ordered, know, 0.15))
        n[visit], y[visit] = np.bincount(level, minlength=11), np.bincount(level, ordered, minlength=11)
    return Levels(SHARES, n, y), subject_id


def loss(votes: Levels, subject_id: np.ndarray, threshold: float, of: str) -> float:
    kept = votes.p >= threshold
    found, wrong = votes.y[:, kept].sum(1), (votes.n - votes.y)[:, kept].sum(1)
    by_visit = wrong if of == "false positives" else 1 - found / votes.y.sum(1)
    return float(np.mean([by_visit[subject_id == one].mean() for one in np.unique(subject_id)]))


def test_the_promise_holds_on_average_over_hospitals_and_is_not_lavish():
    cuts = [(cut_for_recall(*hospital(60, seed), 0.3), hospital(60, 1000 + seed)) for seed in range(60)]
    missed = np.mean([loss(*new, cut.threshold, "recall") for cut, new in cuts])
    assert 0.2 < missed <= 0.3
    cuts = [(cut_for_false_positives(*hospital(60, seed), 4, 20), hospital(60, 1000 + seed)) for seed in range(60)]
    wrong = np.mean([loss(*new, cut.threshold, "false positives") for cut, new in cuts])
    assert 2 < wrong <= 4


def test_the_cut_is_the_best_whose_corrected_loss_is_allowed():
    votes, subject_id = hospital(40, 3)
    cut = cut_for_recall(votes, subject_id, 0.3)
    risks = {p: loss(votes, subject_id, p, "recall") for p in SHARES[1:]}
    allowed = [p for p, risk in risks.items() if (40 * risk + 1) / 41 <= 0.3]
    assert cut.threshold == max(allowed)
    assert cut.risk == pytest.approx(risks[cut.threshold])
    assert cut.bound == pytest.approx((40 * cut.risk + 1) / 41)
    assert cut.drugs == pytest.approx(votes.n[:, cut.threshold <= SHARES].sum(1).mean())
    assert cut.patients == 40


def test_patients_count_once_however_many_visits_they_have():
    good, bad = [0, 0, 1.0], [1.0, 0, 0]  # the one ordered drug has all votes, or none
    votes = Levels(np.array([0, 0.5, 1]), np.ones((10, 3)), np.array([good] + [bad] * 9))
    cut = cut_for_recall(votes, [1] + [2] * 9, 0.9)
    assert cut.risk == 0.5


def test_a_stricter_promise_never_shortens_the_list():
    votes, subject_id = hospital(100, 8)
    cuts = [cut_for_recall(votes, subject_id, alpha) for alpha in (0.6, 0.4, 0.3, 0.2)]
    assert all(a.drugs <= b.drugs for a, b in pairwise(cut for cut in cuts if cut))
    cuts = [cut_for_false_positives(votes, subject_id, most, 30) for most in (2, 4, 8, 16)]
    assert all(a.drugs <= b.drugs for a, b in pairwise(cut for cut in cuts if cut))


def test_what_cannot_be_promised_is_not():
    votes, subject_id = hospital(5, 1)
    assert cut_for_recall(votes, subject_id, 0.1) is None  # 1 / 6 is above it whatever the votes
    assert cut_for_false_positives(votes, subject_id, 1, worst=60) is None
    nothing = Levels(np.array([0.0]), np.ones((3, 1)), np.ones((3, 1)))
    assert cut_for_recall(nothing, [1, 2, 3], 0.99) is None


def test_a_visit_without_an_ordered_drug_loses_nothing():
    votes = Levels(np.array([0, 1.0]), np.ones((3, 2)), np.zeros((3, 2)))
    assert cut_for_recall(votes, [1, 2, 3], 0.3).risk == 0
