"""Fit a calibration: which curve makes these scores probabilities, and by which rule are lists cut best.

What a patient's admissions count for is always said by curves and rules that were fitted to other patients: whole
patients are held out in turn. Knows scores and outcomes, no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.probabilities.calibration import Figures
from serving.probabilities.curves import (
    LOGITS,
    Counts,
    Curve,
    brier,
    choose_curve,
    count,
    ece,
    log_loss,
    to_probabilities,
)
from serving.probabilities.cut import Cut, Floats, Ints, Rule

THRESHOLDS = tuple(round(0.05 + 0.01 * i, 2) for i in range(71))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was ordered.

    Attributes:
        ordered: 1 where a drug of the formulary was, else 0, (admissions, formulary).
        drugs: ordered, in the formulary or not, (admissions,).
        fold: of the admission's patient, (admissions,), from 0 without a gap, at least two.
    """

    ordered: Floats
    drugs: Ints
    fold: Ints


@dataclass(frozen=True, slots=True)
class Fit:
    """A curve and a cut, and what they are worth on held-out patients: after; before: the scores as they come."""

    curve: Curve
    cut: Cut
    before: Figures
    after: Figures


def fit(scores: Floats, outcomes: Outcomes, false_positives: float | None = None) -> Fit:
    """Fit a curve and a cut.

    Args:
        scores: in [0, 1], (admissions, formulary).
        outcomes: of the same admissions.
        false_positives: how many drugs of a list may be expected to be wrong; None: the rule of the highest F1.
    """
    counts = count(scores, outcomes.ordered, outcomes.fold)
    curve, held_out, p = choose_curve(counts)
    chances = np.empty_like(scores)
    for fold, other in enumerate(held_out):
        chances[outcomes.fold == fold] = other(scores[outcomes.fold == fold])
    worth = _Worth(scores, outcomes)
    if false_positives is None:
        cut, f1 = _choose_cut(chances, worth, outcomes.fold)
    else:
        cut = Cut(Rule.FALSE_POSITIVES, false_positives)
        f1 = worth.f1(cut.lengths(chances))
    before = np.broadcast_to(to_probabilities(LOGITS), p.shape)
    return Fit(
        curve=curve,
        cut=cut,
        before=_figures(before, counts, worth.f1(Cut().lengths(Curve()(scores)))),
        after=_figures(p, counts, f1),
    )


class _Worth:
    """F1 of lists of any length, the highest scores first; a curve that does not fall changes nothing in that order."""

    def __init__(self, scores: Floats, outcomes: Outcomes) -> None:
        ranking = np.argsort(-scores, axis=1, kind="stable")
        self._found = np.take_along_axis(outcomes.ordered, ranking, axis=1).cumsum(axis=1)
        self._drugs = outcomes.drugs

    def f1(self, lengths: Ints) -> Floats:
        """Return each admission's F1, (admissions,), for lists of these lengths, (admissions,)."""
        found = np.take_along_axis(self._found, lengths[:, None] - 1, axis=1)[:, 0]
        return np.asarray(2 * found / (lengths + self._drugs))


def _choose_cut(chances: Floats, worth: _Worth, fold: Ints) -> tuple[Cut, Floats]:
    """Return the better rule of two, the simpler if they are equal, and each admission's F1 by it.

    The threshold that an admission is scored by is the best of the other folds.
    """
    expected = worth.f1(Cut().lengths(chances))
    tried = np.stack([worth.f1(Cut(Rule.THRESHOLD, at).lengths(chances)) for at in THRESHOLDS])  # (thresholds, n)
    best = [tried[:, fold != held_out].mean(axis=1).argmax() for held_out in range(int(fold.max()) + 1)]
    threshold = tried[np.array(best)[fold], np.arange(len(fold))]
    if threshold.mean() <= expected.mean():
        return Cut(), expected
    return Cut(Rule.THRESHOLD, THRESHOLDS[int(tried.mean(axis=1).argmax())]), threshold


def _figures(p: Floats, counts: Counts, f1: Floats) -> Figures:
    found = log_loss(p, counts), brier(p, counts), ece(p, counts), float(f1.mean())
    return Figures(*(float(f"{figure:.6g}") for figure in found))
