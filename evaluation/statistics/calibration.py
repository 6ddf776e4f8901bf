"""Does a drug that is voted for in p of the samples stand in p of the truths?

A probability is a vote share over k samples, so it has k + 1 levels; per visit the table holds how many drugs of the
formulary stood at each level and how many of them were ordered. Drugs nobody voted for have p = 0 and are most of
the formulary, so every score is given there and on the `CANDIDATES`, where only the ordered ones among them count.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evaluation.statistics.ratios import Floats, Ratio, divide

BINS = 10


class Universe(StrEnum):
    """Which drugs a probability is asked of."""

    FORMULARY = "formulary"
    CANDIDATES = "candidates"
    """Drugs voted for, and drugs ordered."""


class Levels(NamedTuple):
    """Counts of drugs by level, of all visits.

    Attributes:
        p: (levels,), vote shares from 0 to 1, rising.
        n, y: (visits, levels), drugs at the level, and those of them that were ordered.
    """

    p: Floats
    n: Floats
    y: Floats


def levels(visits: pl.DataFrame, universe: Universe = Universe.FORMULARY) -> Levels:
    """Return the vote levels of a row; a visit without any has no drug at any level."""
    long = (
        visits.select("level_p", "level_n", "level_y")
        .with_row_index("visit")
        .explode("level_p", "level_n", "level_y")
        .drop_nulls()
    )
    p, column = np.unique(long["level_p"].to_numpy(), return_inverse=True)
    n, y = np.zeros((2, len(visits), len(p)))
    np.add.at(n, (long["visit"].to_numpy(), column), long["level_n"].to_numpy())
    np.add.at(y, (long["visit"].to_numpy(), column), long["level_y"].to_numpy())
    return Levels(p, np.where(p > 0, n, y) if universe is Universe.CANDIDATES else n, y)


# --- scores -------------------------------------------------------------------------------------------


def brier(votes: Levels) -> Ratio:
    """Return the mean of (p - y)² over drugs."""
    return Ratio((votes.y * (1 - votes.p) ** 2 + (votes.n - votes.y) * votes.p**2).sum(axis=1), votes.n.sum(axis=1))


class Decomposition(NamedTuple):
    """A Brier score as reliability - resolution + uncertainty; exact, since levels are not binned."""

    reliability: float
    resolution: float
    uncertainty: float


def decompose(votes: Levels) -> Decomposition | None:
    """Return the parts of the Brier score; None without a drug.

    Source: Murphy, J Appl Meteorol 1973;12:595.
    """
    n, y = votes.n.sum(axis=0), votes.y.sum(axis=0)
    if not n.sum():
        return None
    weight, rate, base = n / n.sum(), divide(y, n, undefined=0.0), y.sum() / n.sum()
    return Decomposition(
        reliability=float(weight @ (votes.p - rate) ** 2),
        resolution=float(weight @ (rate - base) ** 2),
        uncertainty=float(base * (1 - base)),
    )


def in_the_large(votes: Levels) -> Ratio:
    """Return Σp - Σy, drugs too many per visit that the votes expect."""
    return Ratio((votes.n * votes.p - votes.y).sum(axis=1), np.ones(len(votes.n)))


class Bins(NamedTuple):
    """A reliability diagram, resampled by visit.

    Attributes:
        n, p, y: (visits, bins), drugs, and the sums of their probabilities and outcomes. A bin's point is
            (Σp / Σn, Σy / Σn); resampling y over n by patient gives its band.
    """

    n: Floats
    p: Floats
    y: Floats

    @property
    def points(self) -> list[tuple[float, float, int]]:
        """Return (mean probability, observed rate, drugs) of each bin, by rising probability."""
        n, p, y = (part.sum(axis=0) for part in self)
        return [(float(a), float(b), int(c)) for a, b, c in zip(p / n, y / n, n, strict=True)]


def equal_mass(votes: Levels, bins: int = BINS) -> Bins:
    """Gather levels into at most `bins` bins of about equal mass; equal probabilities are never parted."""
    n = votes.n.sum(axis=0)
    middle = n.cumsum() - n / 2
    number = (middle / max(n.sum(), 1) * bins).astype(int)
    used, column = np.unique(number[n > 0], return_inverse=True)
    member = np.zeros((len(votes.p), len(used)))
    member[np.flatnonzero(n), column] = 1
    return Bins(votes.n @ member, (votes.n * votes.p) @ member, votes.y @ member)


def ece(binned: Bins) -> float | None:
    """Return Σ (n_b / N) |ȳ_b - p̄_b|; None without a drug. It is above 0 by chance even where p is true."""
    n, gap, _ = _gaps(binned)
    return float(n @ np.abs(gap) / n.sum()) if n.sum() else None


def debiased_ece(binned: Bins) -> float | None:
    """Return the root of Σ (n_b / N) [(ȳ_b - p̄_b)² - ȳ_b (1 - ȳ_b) / (n_b - 1)], floored at 0; None without a drug.

    Source: Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019.
    """
    n, gap, rate = _gaps(binned)
    if not n.sum():
        return None
    noise = rate * (1 - rate) / np.maximum(n - 1, 1)  # of one drug the rate is 0 or 1, the noise 0
    return float(np.sqrt(max(0.0, n @ (gap**2 - noise) / n.sum())))


def _gaps(binned: Bins) -> tuple[Floats, Floats, Floats]:
    n, p, y = (part.sum(axis=0) for part in binned)
    return n, (y - p) / n, y / n


# --- scores of drugs by name --------------------------------------------------------------------------


def classwise_ece(p: Floats, y: NDArray[np.int_], bins: int = 20) -> float:
    """Return the ECE of each drug over bins of equal width, averaged over drugs, as PyHealth's `cwECE`.

    Args:
        p, y: (visits, drugs), at least one of each; a bin holds its upper edge.

    Source: github.com/sunlabuiuc/PyHealth, pyhealth/metrics/calibration.py.
    """
    edges = np.arange(bins + 1) / bins
    number = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, bins - 1)
    drug = np.broadcast_to(np.arange(p.shape[1]), p.shape)
    gaps = np.zeros((p.shape[1], bins))
    np.add.at(gaps, (drug, number), y - p)
    return float(np.abs(gaps).sum() / p.size)
