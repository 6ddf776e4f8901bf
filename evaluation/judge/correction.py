"""PPI++: a judge's many scores set right by a few human labels, with an interval that is clustered by patient.

θ = λ f̄ + r̄ with r_i = y_i - λ f_i: the mean of the judge's scores over all items, plus the weighted mean of what
humans found it wrong by. λ = 0 believes the humans alone, λ = 1 is PPI; λ is chosen to make the variance least. A
judge that says yes to everything adds nothing, and then λ is 0.

Source: Angelopoulos, Duchi, Zrnic, PPI++, arXiv 2311.01453.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.judge.intervals import DRAWS, LEVEL, Floats, Ints, clustered, half_width

FEW_PATIENTS = 30
"""With fewer labelled patients the t interval is too narrow; a patient bootstrap is added."""
FEWEST_LABELS = 20
"""Below it no correction is printed."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A rate corrected by human labels.

    Attributes:
        est: within [0, 1], as are the bounds of its 95 % interval.
        lam: λ, within [0, 1].
        n: labelled items.
        patients: labelled patients.
    """

    est: float
    lo: float
    hi: float
    lam: float
    n: int
    patients: int

    def described(self) -> dict[str, object]:
        """Return it as the certificate holds it."""
        return {"est": self.est, "ci": [self.lo, self.hi], "lambda": self.lam, "n": self.n, "patients": self.patients}


def ppi(scores: Floats, labels: Floats, weights: Floats, patients: Ints, seed: int = 0) -> Corrected | None:
    """Return the corrected mean over all items; None with fewer than FEWEST_LABELS labels or two labelled patients.

    Args:
        scores: the judge's, in [0, 1], of every item, (items,).
        labels: the humans', 0 or 1; NaN where there is none, (items,).
        weights: 1 / probability of having been labelled; read where there is a label, (items,).
        patients: whose item it is, (items,).
        seed: of the bootstrap.
    """
    labelled = ~np.isnan(labels)
    people = len(np.unique(patients[labelled]))
    if labelled.sum() < FEWEST_LABELS or people < 2:
        return None
    y, w = np.where(labelled, labels, 0.0), np.where(labelled, weights, 0.0)
    lam = _best_lambda(scores, y, w, patients)
    est = _estimate(scores, y, w, lam)
    half = half_width(clustered(_influence(scores, y, w, lam), patients)[0], people - 1)
    lo, hi = est - half, est + half
    if people < FEW_PATIENTS:
        drawn = _bootstrap(scores, y, w, patients, lam, seed)
        spread = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        lo, hi = min(lo, float(spread[0])), max(hi, float(spread[1]))
    return Corrected(_unit(est), _unit(lo), _unit(hi), lam, int(labelled.sum()), people)


def _estimate(f: Floats, y: Floats, w: Floats, lam: float) -> float:
    return float(lam * f.mean() + (w * (y - lam * f)).sum() / w.sum())


def _influence(f: Floats, y: Floats, w: Floats, lam: float) -> Floats:
    """Return ψ_i = λ (f_i - f̄) / N + w_i (r_i - r̄) / W, (items,)."""
    r = y - lam * f
    centre = (w * r).sum() / w.sum()
    return lam * (f - f.mean()) / len(f) + w * (r - centre) / w.sum()


def _best_lambda(f: Floats, y: Floats, w: Floats, patients: Ints) -> float:
    """Return the λ in [0, 1] of least variance, which is quadratic in λ: three points tell all of it."""
    at = [clustered(_influence(f, y, w, lam), patients)[0] ** 2 for lam in (0.0, 0.5, 1.0)]
    curve, slope = 2 * (at[0] - 2 * at[1] + at[2]), -3 * at[0] + 4 * at[1] - at[2]
    if curve <= 0:
        return 0.0 if at[0] <= at[2] else 1.0
    return _unit(-slope / (2 * curve))


def _bootstrap(f: Floats, y: Floats, w: Floats, patients: Ints, lam: float, seed: int) -> Floats:
    """Return draws of θ, patients drawn with replacement, (DRAWS,); NaN where no label was drawn."""
    _, group = np.unique(patients, return_inverse=True)
    sums = np.stack([np.bincount(group, x) for x in (f, np.ones_like(f), w * (y - lam * f), w)], axis=1)
    count = len(sums)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums
    right = np.divide(drawn[:, 2], drawn[:, 3], out=np.full(DRAWS, np.nan), where=drawn[:, 3] > 0)
    return lam * drawn[:, 0] / drawn[:, 1] + right


def _unit(x: float) -> float:
    return float(min(max(x, 0.0), 1.0))
