"""How sure a score is: patients drawn again with their visits, so that every row and metric meets the same draws.

A metric is Σ num / Σ den over visits. Visits of one patient resemble each other, so the patient is the unit that is
drawn, and a draw of all metrics of all rows is one product: draws x patients times patients x columns. The draws
depend on the seed and on who the patients are, on nothing else: give every call the same visits, with den 0 where a
visit does not count (another subgroup, a malformed answer), and all that is compared is paired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

Floats = NDArray[np.float64]

DRAWS = 2000
FEWEST_PATIENTS = 20
"""With fewer no interval is worth its print, and one could tell of a single patient."""
_BLOCK_BYTES = 32 * 2**20


class Mark(StrEnum):
    """What is to be said beside an interval."""

    NONE = ""
    UNDEFINED = "undefined"
    """No visit counts."""
    TOO_FEW = "too few"
    """Fewer than `FEWEST_PATIENTS` patients count; no interval."""
    EXACT = "exact"
    """All 0 or all 1: no draw can differ, so the interval is Clopper and Pearson's on patients."""
    NO_SPREAD = "no spread"
    """The same in every draw; the interval is the point."""


class Kind(StrEnum):
    """How draws become an interval."""

    PERCENTILE = "percentile"
    """Percentiles, moved outwards from the normal's to Student's t on the effective number of patients."""
    BCA = "bca"
    """Bias-corrected and accelerated by the jackknife over patients, moved outwards likewise."""
    PLAIN = "plain"
    """The textbook's percentiles; too narrow below some 100 patients (`rxdraft simulate`)."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Of each column; lo and hi are NaN where the mark says that there is no interval.

    Attributes:
        point, lo, hi, se: (columns,).
        mark: (columns,).
        undefined: draws in which no visit counted, (columns,); they are left out.
    """

    point: Floats
    lo: Floats
    hi: Floats
    se: Floats
    mark: list[Mark]
    undefined: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draws:
    """Scores as measured, and as they would have come out with other patients.

    Attributes:
        point: (columns,), NaN where no visit counts.
        boot: (draws, columns), NaN where none counts in a draw.
        jackknife: each patient left out once, (patients, columns).
        patients: with a visit that counts, (columns,).
        effective: patients that would tell as much if all had the same number of visits, (columns,).
        share: columns that lie in [0, 1], where all 0 and all 1 are ends, (columns,).
    """

    point: Floats
    boot: Floats
    jackknife: Floats
    patients: NDArray[np.int64]
    effective: Floats
    share: NDArray[np.bool_]

    def se(self) -> Floats:
        """Return the standard errors, (columns,): the draws' standard deviation."""
        enough = (~np.isnan(self.boot)).sum(axis=0) > 1
        return np.where(enough, np.nanstd(np.where(enough, self.boot, 0.0), axis=0, ddof=1), np.nan)

    def reach(self, level: float = 0.95) -> Floats:
        """Return how many standard errors an interval reaches to each side, (columns,); the normal's 1.96 or more.

        Percentiles of G patients have the spread of a divisor G, not G - 1, and are read as if the spread were
        known. Both are mended by reading further out. What counts is the effective number of patients: one of
        twenty visits weighs as twenty.

        Source: Hesterberg, What teachers should know about the bootstrap, Am Stat 2015, section 4.1; Carter,
        Schnepel and Steigerwald, Rev Econ Stat 2017, for the effective number of clusters.
        """
        degrees = np.maximum(self.effective - 1, 1.0)
        patients = np.maximum(self.patients, 2)
        return np.sqrt(patients / (patients - 1)) * stdtrit(degrees, (1 + level) / 2)

    def intervals(self, kind: Kind = Kind.PERCENTILE, level: float = 0.95) -> Intervals:
        """Return an interval for each column, or the reason why it has none."""
        lower, upper = self._ends(kind, level)
        lo, hi = _quantiles(self.boot, lower), _quantiles(self.boot, upper)
        se, mark = self.se(), self.marks()
        for column, why in enumerate(mark):
            if why in (Mark.UNDEFINED, Mark.TOO_FEW):
                lo[column] = hi[column] = np.nan
            elif why is Mark.NO_SPREAD:
                lo[column] = hi[column] = self.point[column]
            elif why is Mark.EXACT:
                n = int(self.patients[column])
                lo[column], hi[column] = clopper_pearson(n * round(self.point[column]), n, level)
        return Intervals(self.point, lo, hi, se, mark, np.isnan(self.boot).sum(axis=0))

    def marks(self) -> list[Mark]:
        """Return what stands beside each column, (columns,)."""
        spread = np.nan_to_num(np.nanmax(self._defined(), axis=0) - np.nanmin(self._defined(), axis=0)) > 1e-12
        end = self.share & (np.isclose(self.point, 0, atol=1e-12) | np.isclose(self.point, 1, rtol=0, atol=1e-12))
        found = np.select(
            [np.isnan(self.point), self.patients < FEWEST_PATIENTS, end & ~spread, ~spread],
            [Mark.UNDEFINED, Mark.TOO_FEW, Mark.EXACT, Mark.NO_SPREAD],
            Mark.NONE,
        )
        return [Mark(mark) for mark in found]

    def _defined(self) -> Floats:
        """Return the draws; a column without any holds zeros, which numpy does not warn of."""
        return np.where(np.isnan(self.boot).all(axis=0), 0.0, self.boot)

    def _ends(self, kind: Kind, level: float) -> tuple[Floats, Floats]:
        """Return the shares of draws that lie below an interval and below its upper end, (columns,) each."""
        reach = np.full(self.point.shape, ndtri((1 + level) / 2)) if kind is Kind.PLAIN else self.reach(level)
        bias, acceleration = self._bca() if kind is Kind.BCA else (0.0, 0.0)
        lower, upper = (bias + z / (1 - acceleration * z) for z in (bias - reach, bias + reach))
        return ndtr(lower), ndtr(upper)

    def _bca(self) -> tuple[Floats, Floats]:
        """Return bias (z0) and acceleration (a), (columns,) each. Source: Efron, JASA 1987."""
        defined = np.maximum((~np.isnan(self.boot)).sum(axis=0), 1)
        below = ((self.boot < self.point).sum(axis=0) + 0.5 * (self.boot == self.point).sum(axis=0)) / defined
        away = np.nan_to_num(self.jackknife.mean(axis=0) - self.jackknife)
        cubes, squares = (away**3).sum(axis=0), (away**2).sum(axis=0)
        acceleration = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 0)
        return ndtri(np.clip(below, 0.5 / defined, 1 - 0.5 / defined)), acceleration


def draw(
    subject_id: ArrayLike,
    num: ArrayLike,
    den: ArrayLike = 1.0,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    share: ArrayLike = True,
    patient_macro: bool = False,
) -> Draws:
    """Draw patients with replacement and score each draw.

    Args:
        subject_id: whose visit it is, (visits,). Several samples of one visit are averaged, or summed, before.
        num, den: (visits, columns) or (visits,), one column; the metric is Σ num / Σ den, and den >= 0. One den for
            all columns may be one column, or a number.
        draws: how many.
        seed: the same seed and patients give the same draws, whatever the columns.
        share: which columns lie in [0, 1], (columns,).
        patient_macro: average within each patient first, then over patients.
    """
    patient_num, patient_den = _by_patient(subject_id, num, den)
    if patient_macro:
        counts = np.broadcast_to(patient_den > 0, patient_num.shape)
        patient_num, patient_den = _ratio(np.where(counts, patient_num, 0.0), patient_den, 0.0), counts.astype(float)
    total_num, total_den = patient_num.sum(axis=0), patient_den.sum(axis=0)
    boot = [_ratio(w @ patient_num, w @ patient_den) for w in resamples(len(patient_num), draws, seed)]
    columns = patient_num.shape[1:]
    return Draws(
        point=_ratio(total_num, total_den),
        boot=np.concatenate(boot),
        jackknife=_ratio(total_num - patient_num, total_den - patient_den),
        patients=np.broadcast_to((patient_den > 0).sum(axis=0), columns),
        effective=np.broadcast_to(_ratio(total_den**2, (patient_den**2).sum(axis=0), 0.0), columns),
        share=np.broadcast_to(np.asarray(share, dtype=bool), columns),
    )


def resamples(patients: int, draws: int, seed: int, block_bytes: int = _BLOCK_BYTES) -> Iterator[Floats]:
    """Yield how often each patient was drawn, (some draws, patients); their numbers do not depend on the block."""
    rng = np.random.default_rng(seed)
    rows = max(1, block_bytes // (8 * patients))
    for start in range(0, draws, rows):
        block = min(rows, draws - start)
        drawn = rng.integers(patients, size=(block, patients))
        drawn += np.arange(block)[:, None] * patients
        yield np.bincount(drawn.ravel(), minlength=block * patients).reshape(block, patients).astype(float)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share; [0, 1] without trials. Source: Clopper and Pearson, Biometrika 1934."""
    out = (1 - level) / 2
    lo = betaincinv(successes, trials - successes + 1, out) if successes else 0.0
    hi = betaincinv(successes + 1, trials - successes, 1 - out) if successes < trials else 1.0
    return float(lo), float(hi)


def _by_patient(subject_id: ArrayLike, num: ArrayLike, den: ArrayLike) -> tuple[Floats, Floats]:
    """Sum over each patient's visits, patients in the order of their ids: (patients, columns) each."""
    subject = np.asarray(subject_id)
    order = np.argsort(subject, kind="stable")
    starts = np.flatnonzero(np.r_[True, subject[order][1:] != subject[order][:-1]])
    above = np.asarray(num, dtype=float).reshape(len(subject), -1)
    below = np.asarray(den, dtype=float)
    below = np.broadcast_to(below, (len(subject), 1)) if below.ndim == 0 else below.reshape(len(subject), -1)
    return np.add.reduceat(above[order], starts, axis=0), np.add.reduceat(below[order], starts, axis=0)


def _ratio(num: Floats, den: Floats, undefined: float = np.nan) -> Floats:
    den = np.broadcast_to(den, num.shape)
    return np.divide(num, den, out=np.full(num.shape, undefined), where=den > 0)


def _quantiles(boot: Floats, at: Floats) -> Floats:
    """Return of each column its own quantile, NaN left out; NaN where nothing is left."""
    ordered = np.sort(boot, axis=0)  # NaN last
    last = (~np.isnan(boot)).sum(axis=0) - 1
    place = np.clip(at, 0, 1) * np.maximum(last, 0)
    below = np.floor(place).astype(int)
    above, columns = np.minimum(below + 1, np.maximum(last, 0)), np.arange(boot.shape[1])
    left, right = ordered[below, columns], ordered[above, columns]
    return left + (place - below) * (right - left)
