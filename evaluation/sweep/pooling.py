"""A mean over seeds, and how sure it is.

Seeds are crossed with patients: all trials meet the same ones. The mean over S seeds and P patients varies because
other patients might have come (the bootstrap over patients, of the mean over seeds) and because other seeds might
have been drawn (sd² / S, sd over the seeds on the same patients). Each part has its own Student's t, the seeds' on
S - 1 degrees of freedom, and the two half-widths are added in squares. One t for both (Satterthwaite's) holds the truth
too seldom with two or three seeds: where they happen to lie close it counts on patients' degrees of freedom.

Source: Zou and Donner, Construction of confidence limits about effect measures, Stat Med 2008, for adding half-widths
in squares; Owen, The pigeonhole bootstrap, Ann Appl Stat 2007, for the two directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy.special import stdtrit

from evaluation.statistics.bootstrap import FEWEST_PATIENTS, Draws, Floats
from evaluation.statistics.comparisons import combine


@dataclass(frozen=True, slots=True)
class Pooled:
    """A mean over seeds.

    Attributes:
        value: the mean; None where a seed has no value.
        lo, hi: 95 % interval over patients and seeds, over patients alone with one seed; None with too few patients.
        sd: over seeds; None with one.
    """

    value: float | None
    lo: float | None = None
    hi: float | None = None
    sd: float | None = None


def spread(values: Sequence[float | None]) -> Pooled:
    """Return mean and standard deviation over seeds, without an interval."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Pooled(None)
    return Pooled(fmean(known), sd=stdev(known) if len(known) > 1 else None)


def pool(drawn: Draws, weights: Floats, bounds: tuple[float, float] | None) -> Pooled:
    """Return a mean over seeds with its interval over patients and seeds, see the head of this file.

    Args:
        drawn: of all rows.
        weights: of a seed's rows, (seeds, rows).
        bounds: least and greatest value there can be; None: there are none.
    """
    each = combine(drawn, weights).point
    mean = combine(drawn, weights.mean(axis=0))
    value = float(mean.point[0])
    if np.isnan(value):
        return Pooled(None)
    sd = float(np.std(each, ddof=1)) if len(each) > 1 else None
    if mean.patients[0] < FEWEST_PATIENTS:
        return Pooled(value, sd=sd)
    if sd is None:
        found = mean.intervals()
        lo, hi = float(found.lo[0]), float(found.hi[0])
    else:
        reach = half_width(float(mean.se()[0]), int(mean.patients[0]), float(mean.effective[0]), sd, len(each))
        lo, hi = value - reach, value + reach
    low, high = bounds or (-np.inf, np.inf)
    return Pooled(value, max(lo, low), min(hi, high), sd)


def half_width(se: float, patients: int, effective: float, sd: float, seeds: int, level: float = 0.95) -> float:
    """Return how far an interval over patients and seeds reaches to each side.

    Args:
        se: of the mean over seeds, if other patients had come; the bootstrap's.
        patients: who were drawn; effective: that would tell as much if all had the same number of visits.
        sd: over the seeds.
        seeds: how many, at least 2.
        level: of the interval.
    """
    of_patients = stdtrit(max(effective - 1, 1.0), (1 + level) / 2) * se * np.sqrt(patients / (patients - 1))
    of_seeds = stdtrit(seeds - 1, (1 + level) / 2) * sd / np.sqrt(seeds)
    return float(np.hypot(of_patients, of_seeds))
