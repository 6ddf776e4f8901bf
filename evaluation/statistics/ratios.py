"""A score as a sum over a sum of per-visit numbers: the form in which patients can be resampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    """A score over visits, Σ num / Σ den.

    Attributes:
        num, den: (visits,); a visit with den 0 does not count.
        empty: the value where no visit counts; None: undefined.
    """

    num: Floats
    den: Floats
    empty: float | None = None

    @property
    def value(self) -> float | None:
        """Return the score over all visits."""
        den = self.den.sum()
        return float(self.num.sum() / den) if den else self.empty


def ratio(num: ArrayLike, den: ArrayLike, empty: float | None = None) -> Ratio:
    """Pool counts over visits: long lists weigh more."""
    return Ratio(np.asarray(num, dtype=float), np.asarray(den, dtype=float), empty)


def mean(values: ArrayLike) -> Ratio:
    """Average over visits; NaN is undefined and left out."""
    scores = np.asarray(values, dtype=float)
    return Ratio(np.nan_to_num(scores), (~np.isnan(scores)).astype(float))


def patient_mean(values: ArrayLike, subject_id: ArrayLike) -> Ratio:
    """Average over each patient's visits, then over patients; NaN is undefined and left out."""
    num, den, _ = mean(values)
    _, patient = np.unique(np.asarray(subject_id), return_inverse=True)
    visits = np.bincount(patient, den)[patient]
    share = np.divide(den, visits, out=np.zeros_like(den), where=visits > 0)
    return Ratio(num * share, share)


def divide(num: ArrayLike, den: ArrayLike, undefined: float = np.nan) -> Floats:
    """Divide visit by visit; `undefined` where the denominator is 0."""
    above, below = np.asarray(num, dtype=float), np.asarray(den, dtype=float)
    return np.divide(above, below, out=np.full(above.shape, undefined), where=below != 0)
