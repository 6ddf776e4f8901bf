"""Intervals for shares: exact, clustered by patient, and of the true rate that a judge's raw rate leaves possible.

Everything here takes arrays and returns numbers; it knows no judge and no drug.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, t

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
DRAWS = 2000
WIDEST_IDENTIFIED = 0.10
"""A wider identification interval tells nothing that a clinician could use."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval.

    Attributes:
        est: None where nothing was counted; the interval is then [0, 1].
        n: units counted.
        patients: whose they are.
    """

    est: float | None
    lo: float
    hi: float
    n: int
    patients: int

    def described(self) -> dict[str, object]:
        """Return it as the certificate holds it."""
        return {"est": self.est, "ci": [self.lo, self.hi], "n": self.n, "patients": self.patients}


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a binomial share; [0, 1] for n = 0.

    >>> [round(bound, 2) for bound in clopper_pearson(90, 100)]
    [0.82, 0.95]
    >>> clopper_pearson(0, 73)[1] < 0.05 < clopper_pearson(0, 70)[1]
    True

    Source: Clopper and Pearson, Biometrika 1934;26:404.
    """
    tail = (1 - level) / 2
    lo = float(beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    hi = float(beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return lo, hi


def bootstrap(num: Floats, den: Floats, patients: Ints, seed: int = 0) -> Floats:
    """Return draws of sum(num) / sum(den), patients drawn with replacement, (DRAWS,); NaN where den is 0.

    Args:
        num, den: per unit, (units,).
        patients: whose unit it is, (units,).
        seed: of the draws.
    """
    _, group = np.unique(patients, return_inverse=True)
    sums = np.stack([np.bincount(group, num), np.bincount(group, den)], axis=1)  # (patients, 2)
    count = len(sums)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums
    return np.divide(drawn[:, 0], drawn[:, 1], out=np.full(DRAWS, np.nan), where=drawn[:, 1] > 0)


def share(hits: Floats, patients: Ints) -> Share:
    """Return the share of hits: exact, and no narrower than patients with several units allow.

    Where all or none are hits, resampling sees no spread; the exact interval then counts patients, not units.

    Args:
        hits: 0 or 1 per unit, (units,).
        patients: whose unit it is, (units,).
    """
    n, successes, people = len(hits), int(hits.sum()), len(np.unique(patients))
    if not n:
        return Share(None, 0.0, 1.0, 0, 0)
    if n == people:
        return Share(successes / n, *clopper_pearson(successes, n), n, people)
    if successes in (0, n):
        return Share(successes / n, *clopper_pearson(people if successes else 0, people), n, people)
    lo, hi = clopper_pearson(successes, n)
    spread = np.nanquantile(bootstrap(hits, np.ones(n), patients), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(successes / n, min(lo, float(spread[0])), max(hi, float(spread[1])), n, people)


def clustered(influence: Floats, patients: Ints) -> tuple[float, int]:
    """Return the standard error of a sum of influences, added up within patients, and the number of patients.

    Var = G / (G - 1) Σ_g ψ_g²; infinite for a single patient.
    """
    _, group = np.unique(patients, return_inverse=True)
    by_patient = np.bincount(group, influence)
    count = len(by_patient)
    if count < 2:
        return float("inf"), count
    return float(np.sqrt(count / (count - 1) * (by_patient**2).sum())), count


def half_width(standard_error: float, freedom: int) -> float:
    """Return half of a 95 % t interval; infinite without a degree of freedom."""
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * standard_error if freedom > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Identification:
    """Which true rates a judge's raw rate leaves possible."""

    lo: float
    hi: float

    @property
    def identified(self) -> bool:
        """Whether the interval is narrow enough to print a number."""
        return self.hi - self.lo <= WIDEST_IDENTIFIED


def identify(p: tuple[float, float], s: tuple[float, float], f: tuple[float, float]) -> Identification:
    """Return the identification interval from intervals of raw rate, sensitivity and false-accept rate.

    g = (p - f) / (s - f) falls in f and, for p >= f, in s: the bounds are g(p_lo, s_hi, f_hi) and
    g(p_hi, s_lo, f_lo).

    >>> found = identify((0.982, 0.982), clopper_pearson(398, 400), clopper_pearson(360, 400))
    >>> round(found.lo, 2), round(found.hi, 2), found.identified
    (0.76, 1.0, False)
    """
    (p_lo, p_hi), (s_lo, s_hi), (f_lo, f_hi) = p, s, f
    if s_lo <= f_hi:
        return Identification(0.0, 1.0)
    lo = 0.0 if p_lo <= f_hi else (p_lo - f_hi) / (s_hi - f_hi)
    hi = 1.0 if p_hi >= s_lo else (p_hi - f_lo) / (s_lo - f_lo)
    return Identification(min(max(lo, 0.0), 1.0), min(max(hi, 0.0), 1.0))


def rogan_gladen(p: float, s: float, f: float) -> float | None:
    """Return (p - f) / (s - f), clipped; shown beside the interval and never instead of it. None for s <= f.

    Source: Rogan and Gladen, Am J Epidemiol 1978;107:71.
    """
    return None if s <= f else min(max((p - f) / (s - f), 0.0), 1.0)
