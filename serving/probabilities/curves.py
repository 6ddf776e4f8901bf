"""From scores to probabilities: curves that never fall, fitted to what was ordered.

All drugs of all admissions are one pool. A curve is fitted to counts at levels of the score, not to single drugs, so
that a formulary of thousands and a cohort of tens of thousands cost no more than small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from serving.probabilities.cut import Floats, Ints

LARGEST = 15.0
"""Logits are told apart up to here: one in three millions."""
_STEP = 0.01
LOGITS = np.linspace(-LARGEST, LARGEST, round(2 * LARGEST / _STEP) + 1)
"""The levels, (levels,): what rounding to them changes in a probability is below 0.5 % of it."""
_LEAST = 1e-6
"""No drug is certain, and none impossible."""
BINS = 10
"""Of the calibration error, as the evaluation has them."""


class Kind(StrEnum):
    """How scores become probabilities."""

    IDENTITY = "identity"
    PLATT = "platt"
    """Straight in the logit. Source: Platt, Advances in Large Margin Classifiers, 1999."""
    ISOTONIC = "isotonic"
    """Any curve that does not fall. Source: Zadrozny and Elkan, KDD 2002."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A probability for every score, never less for a higher one.

    Attributes:
        kind: see `Kind`.
        slope, intercept: of the logit; slope is not negative. Isotonic curves do not use them.
        knots: logit of the score and probability, both rising, of an isotonic curve; straight between them.
    """

    kind: Kind = Kind.IDENTITY
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """See that it does not fall.

        Raises:
            ValueError: it does, or there is nothing to go by.
        """
        if not (self.slope >= 0 and np.isfinite((self.slope, self.intercept)).all()):
            raise ValueError("a curve that falls")
        if self.kind is Kind.ISOTONIC:
            x, y = np.array(self.knots).reshape(-1, 2).T
            if not (len(x) and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all() and 0 < y[0] <= y[-1] < 1):
                raise ValueError("an isotonic curve that falls")

    def __call__(self, scores: Floats) -> Floats:
        """Return probabilities, above 0 and below 1, for scores in [0, 1]; both of any shape."""
        return self.of_logits(to_logits(scores))

    def of_logits(self, logits: Floats) -> Floats:
        """Return probabilities for the logits of scores."""
        if self.kind is Kind.ISOTONIC:
            return np.interp(logits, *np.array(self.knots).T)
        return np.clip(to_probabilities(self.slope * logits + self.intercept), _LEAST, 1 - _LEAST)


def to_logits(scores: Floats) -> Floats:
    """Return ln(s / (1 - s)) within ±LARGEST."""
    bounded = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.clip(np.log(bounded) - np.log1p(-bounded), -LARGEST, LARGEST)


def to_probabilities(logits: Floats) -> Floats:
    """Return 1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


# --- fitting ------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Drugs by the level of their score: n of them, y of those ordered; (levels,), or (folds, levels)."""

    n: Floats
    y: Floats


def count(scores: Floats, ordered: Floats, fold: Ints) -> Counts:
    """Count drugs, (folds, levels).

    Args:
        scores: in [0, 1], (admissions, formulary).
        ordered: 1 where the drug was, else 0, (admissions, formulary).
        fold: of each admission, (admissions,), from 0 without a gap.
    """
    level = np.rint((to_logits(scores) + LARGEST) / _STEP).astype(np.int64)
    cell = (fold[:, None] * len(LOGITS) + level).ravel()
    shape = int(fold.max()) + 1, len(LOGITS)
    n, y = (np.bincount(cell, weights, shape[0] * shape[1]) for weights in (None, ordered.ravel()))
    return Counts(n.reshape(shape).astype(float), y.reshape(shape).astype(float))


def fit_identity(counts: Counts) -> Curve:
    """Return the curve that takes scores for probabilities."""
    return Curve()


def fit_platt(counts: Counts) -> Curve:
    """Return the most likely straight line in the logit that does not fall."""
    from scipy.optimize import minimize

    x, (n, y) = LOGITS, counts

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * x + line[1]
        wrong = n * to_probabilities(z) - y
        value = (n * np.logaddexp(0, z) - y * z).sum()
        return value / n.sum(), np.array([wrong @ x, wrong.sum()]) / n.sum()

    found = minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)], tol=1e-12)
    slope, intercept = map(_short, found.x)
    return Curve(Kind.PLATT, slope, intercept)


def fit_isotonic(counts: Counts) -> Curve:
    """Return the most likely curve that does not fall, straight between the middles of its steps.

    Each step is given one drug more of the average kind, so that a few that were all ordered are no certainty.

    Source: Oron and Flournoy, Centered Isotonic Regression, Stat Biopharm Res 2017.
    """
    there = counts.n > 0
    n, y = counts.n[there], counts.y[there]
    begins, _ = _steps(y / n, n)
    x_sum, n, y = (np.add.reduceat(part, begins) for part in (n * LOGITS[there], n, y))
    average = (y.sum() + 1) / (n.sum() + 2)
    begins, rates = _steps((y + average) / (n + 1), n + 1)
    x_sum, n = (np.add.reduceat(part, begins) for part in (x_sum, n))
    rates = np.clip(rates, _LEAST, 1 - _LEAST)
    return Curve(Kind.ISOTONIC, knots=tuple(zip(map(_short, x_sum / n), map(_short, rates), strict=True)))


def _steps(rates: Floats, weights: Floats) -> tuple[Ints, Floats]:
    """Return where the steps of the best curve that does not fall begin, and how high they are."""
    from scipy.optimize import isotonic_regression

    found = isotonic_regression(rates, weights=weights)
    begins = np.asarray(found.blocks[:-1])
    return begins, np.asarray(found.x[begins])


def _short(number: float) -> float:
    """Return six digits of a number: the last bits are the machine's."""
    return float(f"{number:.6g}")


FITS = (fit_identity, fit_platt, fit_isotonic)


def choose_curve(counts: Counts) -> tuple[Curve, list[Curve], Floats]:
    """Fit the kind of curve that says most about patients it was not fitted to.

    Args:
        counts: by fold, at least two.

    Returns:
        The curve fitted to all; those fitted to all but one fold; and the probabilities that the latter give to the
        levels of their folds, (folds, levels).
    """
    n, y = counts
    found = []
    for fit in FITS:
        held_out = [
            fit(Counts(n.sum(axis=0) - one_n, y.sum(axis=0) - one_y)) for one_n, one_y in zip(n, y, strict=True)
        ]
        p = np.stack([curve.of_logits(LOGITS) for curve in held_out])
        found.append((log_loss(p, counts), fit, held_out, p))
    _, fit, held_out, p = min(found, key=lambda one: one[0])
    return fit(Counts(n.sum(axis=0), y.sum(axis=0))), held_out, p


# --- what a curve is worth ----------------------------------------------------------------------------


def log_loss(p: Floats, counts: Counts) -> float:
    """Return the mean of -ln of the probability of what happened, in nats per drug."""
    n, y = counts
    return float(-(y * np.log(p) + (n - y) * np.log1p(-p)).sum() / n.sum())


def brier(p: Floats, counts: Counts) -> float:
    """Return the mean of (p - y)² per drug."""
    n, y = counts
    return float((y * (1 - p) ** 2 + (n - y) * p**2).sum() / n.sum())


def ece(p: Floats, counts: Counts, bins: int = BINS) -> float:
    """Return Σ (n_b / N) |ȳ_b - p̄_b| over bins of about equal mass; equal probabilities are never parted."""
    level, place = np.unique(p.ravel(), return_inverse=True)
    n, y = (np.bincount(place, part.ravel()) for part in counts)
    number = ((n.cumsum() - n / 2) / n.sum() * bins).astype(int)
    return float(np.abs(np.bincount(number, y) - np.bincount(number, n * level)).sum() / n.sum())
