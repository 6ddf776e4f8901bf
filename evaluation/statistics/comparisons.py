"""Which row is better: differences, effects and winners from the same draws, with the price of many looks.

All that is asked here is linear in the rows' scores, so a question is a row of weights and its draws are the rows'
draws combined. Intervals of a family hold all at once (max-T); p-values are Holm's beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from evaluation.statistics.bootstrap import DRAWS, Draws, Floats, Mark, draw

POWER = 2.8
"""Standard errors of a difference that is found four times in five: 1.96 + 0.84."""


@dataclass(frozen=True, slots=True)
class Family:
    """Differences that were looked at together, (contrasts,) each.

    Attributes:
        point, se: of the differences.
        lo, hi: simultaneous intervals: in 95 % of samples all of them cover.
        p: max-T, of the differences being 0; adjusted for the family as the intervals are.
        holm: Holm's, from the marginal bootstrap.
        mark: why a difference has no interval.
    """

    point: Floats
    se: Floats
    lo: Floats
    hi: Floats
    p: Floats
    holm: Floats
    mark: list[Mark]


@dataclass(frozen=True, slots=True)
class Best:
    """The row that came out first.

    Attributes:
        index: of the row.
        raw: its score, which is too good since it was picked for it.
        corrected: the score less the optimism of picking.
        tied: rows that the all-pairs family cannot tell from it, itself included, (columns,).
        chance: share of draws in which a row comes first; equal firsts share, (columns,).
    """

    index: int
    raw: float
    corrected: float
    tied: NDArray[np.bool_]
    chance: Floats


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences between pairs of rows, on the same visits.

    Attributes:
        everyone: over all visits, a malformed answer counts 0.
        both: over the visits where both rows gave a list.
        both_formed: the number of these, (pairs,).
    """

    everyone: Draws
    both: Draws
    both_formed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clustering:
    """How much visits of one patient resemble each other.

    Attributes:
        icc: the share of the variance that lies between patients; below 0 by chance.
        visits: per patient as the mean visit meets it, Σm² / Σm; m̄ where all have as many.
        design_effect: 1 + (visits - 1) icc: the variance over that of as many unrelated visits.
    """

    icc: float
    visits: float
    design_effect: float


# --- questions: weights, (contrasts, rows) -------------------------------------------------------------


def against(rows: int, reference: int) -> Floats:
    """Each other row less the reference, in the order of rows: (rows - 1, rows)."""
    weights = np.delete(np.eye(rows), reference, axis=0)
    weights[:, reference] = -1
    return weights


def all_pairs(rows: int) -> tuple[list[tuple[int, int]], Floats]:
    """Return pairs (i, j), i < j, and the weights of i less j, (pairs, rows)."""
    pairs = [(i, j) for i in range(rows) for j in range(i + 1, rows)]
    one = np.eye(rows)
    return pairs, np.array([one[i] - one[j] for i, j in pairs]).reshape(-1, rows)


def effects(ranks: Sequence[int], epochs: Sequence[float]) -> dict[str, Floats]:
    """Return the weights, (rows,), of the effects of rank and training length, by name.

    A rank's effect is its mean over steps less the lowest rank's, over the steps that both have. A slope is least
    squares over a rank's epochs, Σ(x - x̄) m / Σ(x - x̄)²; the interaction is a rank's slope less the lowest rank's.

    Args:
        ranks, epochs: of each row, (rows,); epochs may be steps, then a slope is per step.
    """
    rank, epoch = np.asarray(ranks), np.asarray(epochs, dtype=float)
    lowest, *higher = sorted(set(ranks))
    slopes = {r: s for r in (lowest, *higher) if (s := _slope(rank == r, epoch)) is not None}
    found = {f"rank {r} - rank {lowest}": w for r in higher if (w := _rank_effect(rank, epoch, r, lowest)) is not None}
    if slopes:
        found["slope per epoch"] = np.mean(list(slopes.values()), axis=0)
    found |= {f"slope of rank {r}": slope for r, slope in slopes.items() if len(slopes) > 1}
    if lowest in slopes:
        found |= {f"slope of rank {r} - rank {lowest}": slopes[r] - slopes[lowest] for r in higher if r in slopes}
    return found


def _rank_effect(rank: NDArray[np.int64], epoch: Floats, high: int, low: int) -> Floats | None:
    common = np.isin(epoch, np.intersect1d(epoch[rank == high], epoch[rank == low]))
    of_high, of_low = common & (rank == high), common & (rank == low)
    return of_high / of_high.sum() - of_low / of_low.sum() if common.any() else None


def _slope(of: NDArray[np.bool_], epoch: Floats) -> Floats | None:
    away = np.where(of, epoch - epoch[of].mean(), 0.0)
    squares = float((away**2).sum())
    return away / squares if squares else None


# --- answers --------------------------------------------------------------------------------------------


def combine(draws: Draws, weights: ArrayLike) -> Draws:
    """Return the draws of linear combinations; a column of weight 0 does not touch one, undefined or not.

    Args:
        weights: (contrasts, columns), or (columns,), one contrast.
    """
    rows = np.atleast_2d(np.asarray(weights, dtype=float))
    used = [np.flatnonzero(row) for row in rows]

    def each(values: Floats) -> Floats:
        return np.stack([values[..., at] @ row[at] for at, row in zip(used, rows, strict=True)], axis=-1)

    return Draws(
        point=each(draws.point),
        boot=each(draws.boot),
        jackknife=each(draws.jackknife),
        patients=np.array([draws.patients[at].min() for at in used]),
        effective=np.array([draws.effective[at].min() for at in used]),
        share=np.zeros(len(rows), dtype=bool),
    )


def simultaneous(differences: Draws, level: float = 0.95) -> Family:
    """Return intervals that hold all at once, Δ ± q se, where q is the quantile over draws of max |Δ* - Δ| / se.

    q is stretched as `Draws.reach` stretches a single interval: draws of few patients vary too little.

    Source: Romano and Wolf, Econometrica 2005 (max-T); Holm, Scand J Stat 1979.
    """
    mark, se = differences.marks(), differences.se()
    usable = np.array([why is Mark.NONE for why in mark], dtype=bool)
    stretch = differences.reach(level) / ndtri((1 + level) / 2)
    point, scale = differences.point, np.where(usable, se, 1.0)
    away = np.where(usable, np.abs(differences.boot - point) / scale, 0.0)  # (draws, contrasts)
    furthest = np.nanmax(np.nan_to_num(away), axis=1, initial=0.0)
    seen = np.where(usable, np.abs(point) / scale / stretch, 0.0)
    half = np.where(usable, np.quantile(furthest, level) * stretch * se, np.nan)
    half[[why is Mark.NO_SPREAD for why in mark]] = 0.0
    draws = len(furthest)
    p = (1 + (furthest[:, None] >= seen).sum(axis=0)) / (draws + 1)
    marginal = (1 + (away >= seen).sum(axis=0)) / (draws + 1)
    p, marginal = np.where(usable, p, np.nan), np.where(usable, marginal, np.nan)
    return Family(point, se, point - half, point + half, p, holm(marginal), mark)


def holm(p: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values; NaN is no test: it stays, and the others do not pay for it.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=float)
    adjusted = values.copy()
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def best(draws: Draws, *, higher: bool = True, level: float = 0.95) -> Best | None:
    """Find the best row, what it would score were it not picked for it, and who ties with it.

    corrected = m_best - mean over draws of (m*_ĉ - m_ĉ), where ĉ is the winner of the draw. Among equal rows it takes
    back three quarters of the optimism (`rxdraft simulate`); a row chosen on the validation split has none.

    Args:
        draws: one column a row of the table, one metric.
        higher: whether more is better.
        level: of the all-pairs family, which pays for the best being picked.

    Returns:
        None where no row has a score.
    """
    sign = 1 if higher else -1
    point, boot = (np.where(np.isnan(x), -np.inf, sign * x) for x in (draws.point, draws.boot))
    boot = boot[~np.isneginf(boot).all(axis=1)]
    if np.isneginf(point).all() or not len(boot):
        return None
    index, winners = int(point.argmax()), boot.argmax(axis=1)
    optimism = float((boot[np.arange(len(boot)), winners] - point[winners]).mean())
    first = boot == boot.max(axis=1, keepdims=True)
    chance = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    raw = float(draws.point[index])
    return Best(index, raw, raw - sign * optimism, _tied(draws, index, level), chance)


def _tied(draws: Draws, index: int, level: float) -> NDArray[np.bool_]:
    pairs, weights = all_pairs(len(draws.point))
    tied = np.arange(len(draws.point)) == index
    if not pairs:
        return tied
    family = simultaneous(combine(draws, weights), level)
    for pair, lo, hi in zip(pairs, family.lo, family.hi, strict=True):
        if index in pair:
            tied[sum(pair) - index] = not (lo > 0 or hi < 0) and not np.isnan(draws.point[sum(pair) - index])
    return tied


# --- pairs of rows, and rows with failures ----------------------------------------------------------------


def paired(
    subject_id: ArrayLike,
    scores: ArrayLike,
    formed: ArrayLike,
    pairs: Sequence[tuple[int, int]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Paired:
    """Compare pairs of rows visit by visit, over all visits and over those where both gave a list.

    Args:
        subject_id: (visits,).
        scores: (visits, rows); NaN is undefined: 0 over everyone, left out of both.
        formed: whether the answer is a list, (visits, rows).
        pairs: (i, j) asks for i less j.
    """
    well = np.asarray(formed, dtype=bool)
    score = np.asarray(scores, dtype=float)
    defined = well & ~np.isnan(score)
    value = np.where(defined, score, 0.0)
    left, right = (np.array([pair[side] for pair in pairs], dtype=int) for side in (0, 1))
    difference, both = value[:, left] - value[:, right], defined[:, left] & defined[:, right]
    return Paired(
        everyone=draw(subject_id, difference, draws=draws, seed=seed, share=False),
        both=draw(subject_id, difference * both, both, draws=draws, seed=seed, share=False),
        both_formed=both.sum(axis=0),
    )


def failure_bounds(
    subject_id: ArrayLike, scores: ArrayLike, formed: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> tuple[Draws, Draws]:
    """Bound a mean over all visits where a malformed answer is unknown: it counts 0, then it counts 1.

    Args:
        subject_id: (visits,).
        scores: in [0, 1], (visits, rows); read where formed only. NaN counts as unknown.
        formed: whether the answer is a list, (visits, rows).

    Returns:
        Draws of the lower and of the upper bound; an interval reaches from the one's lo to the other's hi.
    """
    score = np.asarray(scores, dtype=float)
    known = np.asarray(formed, dtype=bool) & ~np.isnan(score)
    lower = draw(subject_id, np.where(known, score, 0.0), draws=draws, seed=seed)
    return lower, draw(subject_id, np.where(known, score, 1.0), draws=draws, seed=seed)


def smallest_detectable(se: ArrayLike) -> Floats:
    """Return the differences found with 80 % power at 5 %, (contrasts,), from standard errors of paired differences."""
    return POWER * np.asarray(se, dtype=float)


def clustering(subject_id: ArrayLike, values: ArrayLike) -> Clustering | None:
    """Measure how alike visits of one patient are, by one-way analysis of variance.

    Args:
        subject_id: (visits,).
        values: a score, or a paired difference, of each visit, (visits,); NaN is left out.

    Returns:
        None where it cannot be told: no patient has two visits, one patient only, or no spread.

    Source: Donner and Koval, Biometrics 1980 (ANOVA estimator, unequal sizes); Kish, Survey Sampling, 1965.
    """
    value = np.asarray(values, dtype=float)
    keep = ~np.isnan(value)
    _, patient, size = np.unique(np.asarray(subject_id)[keep], return_inverse=True, return_counts=True)
    value, visits, patients = value[keep], len(patient), len(size)
    if patients < 2 or visits == patients:
        return None
    means = np.bincount(patient, value) / size
    within = float(((value - means[patient]) ** 2).sum()) / (visits - patients)
    between = float((size * (means - value.mean()) ** 2).sum()) / (patients - 1)
    met = float((size**2).sum()) / visits
    usual = (visits - met) / (patients - 1)
    total = between + (usual - 1) * within
    if not total:
        return None
    icc = (between - within) / total
    return Clustering(icc, met, 1 + (met - 1) * icc)
