"""How far raters agree: functions of counts that add up over patients, so that resampling patients is a product.

Every statistic is nominal and takes any number of raters, with gaps. AC1 rises with a skewed answer where kappa
falls; both are shown, and no word such as "substantial" is put to either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.statistics.bootstrap import DRAWS, Draws, resamples

Array = NDArray[np.float64]
MISSING = -1


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over items; the leading axes are patients, or draws of patients, or none.

    Attributes:
        pairs: ordered pairs of two raters' answers to one item, (..., categories, categories).
        weighted: the same, an item's pairs divided by its raters but one: Krippendorff's coincidences.
        agreed: the share of an item's pairs that agree; its sum.
        doubled, rated: items with two answers or more, and with any.
        shares: each category's share of an item's answers; their sums, (..., categories).
        confusion: answers of each pair of raters, (..., rater pairs, categories, categories).
    """

    pairs: Array
    weighted: Array
    agreed: Array
    doubled: Array
    rated: Array
    shares: Array
    confusion: Array

    def resample(self, weights: Array) -> Tally:
        """Return sums over patients, each counted as often as a row of weights says, (draws, patients)."""
        fields = (getattr(self, name) for name in Tally.__slots__)
        return Tally(*(np.tensordot(weights, field, axes=1) for field in fields))


def tally(ratings: NDArray[np.int64], patients: NDArray[np.int64], categories: int) -> Tally:
    """Count answers by patient.

    Args:
        ratings: (items, raters), 0 to categories - 1, or MISSING.
        patients: (items,), any numbers.
        categories: how many answers there are.
    """
    given = ratings[..., None] == np.arange(categories)  # (items, raters, categories)
    counts = given.sum(axis=1).astype(float)  # (items, categories)
    answers = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(categories)
    doubled = answers >= 2
    ordered = np.where(doubled, answers * (answers - 1), 1)
    each = given.astype(float)
    both = [each[:, i, :, None] * each[:, j, None, :] for i, j in combinations(range(ratings.shape[1]), 2)]
    confusion = np.stack(both, axis=1) if both else np.zeros((len(ratings), 0, categories, categories))
    _, cluster = np.unique(patients, return_inverse=True)

    def summed(values: Array) -> Array:
        total = np.zeros((cluster.max(initial=-1) + 1, *values.shape[1:]))
        np.add.at(total, cluster, values)
        return total

    return Tally(
        pairs=summed(pairs),
        weighted=summed(pairs / np.where(doubled, answers - 1, 1)[:, None, None]),
        agreed=summed(np.trace(pairs, axis1=1, axis2=2) / ordered),
        doubled=summed(doubled.astype(float)),
        rated=summed((answers > 0).astype(float)),
        shares=summed(counts / np.maximum(answers, 1)[:, None]),
        confusion=summed(confusion),
    )


# --- statistics ----------------------------------------------------------------------------------------


def percent(t: Tally) -> Array:
    """Share of agreeing pairs, averaged over items with two answers or more."""
    return _ratio(t.agreed, t.doubled)


def specific(t: Tally, category: int) -> Array:
    """Agreement on one category: 2a / (2a + b + c) for two raters, its sum over pairs for more.

    Positive agreement for the category that approves, negative for the one that rejects.

    Source: Cicchetti & Feinstein, J Clin Epidemiol 1990;43:551.
    """
    return _ratio(t.pairs[..., category, category], t.pairs[..., category, :].sum(-1))


def cohen_kappa(t: Tally) -> Array:
    """(po - pe) / (1 - pe), averaged over the pairs of raters that share an item.

    Source: Cohen, Educ Psychol Meas 1960;20:37; for more than two raters Light, Psychol Bull 1971;76:365.
    """
    total = t.confusion.sum((-1, -2))
    observed = _ratio(np.trace(t.confusion, axis1=-2, axis2=-1), total)
    chance = _ratio((t.confusion.sum(-1) * t.confusion.sum(-2)).sum(-1), total**2)
    kappas = _ratio(observed - chance, 1 - chance)
    return _ratio(np.nansum(kappas, axis=-1), (~np.isnan(kappas)).sum(-1).astype(float))


def krippendorff_alpha(t: Tally) -> Array:
    """1 - Do / De with nominal distances, over items with two answers or more.

    Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011 (repository.upenn.edu/asc_papers/43).
    """
    totals = t.weighted.sum(-1)
    n = totals.sum(-1)
    observed = n - np.trace(t.weighted, axis1=-2, axis2=-1)
    expected = _ratio(n**2 - (totals**2).sum(-1), n - 1)
    return 1 - _ratio(observed, expected)


def gwet_ac1(t: Tally) -> Array:
    """(po - pe) / (1 - pe) with pe = Σ π (1 - π) / (categories - 1).

    Source: Gwet, Br J Math Stat Psychol 2008;61:29.
    """
    prevalence = t.shares / np.where(t.rated > 0, t.rated, np.nan)[..., None]
    chance = (prevalence * (1 - prevalence)).sum(-1) / (t.shares.shape[-1] - 1)
    return _ratio(percent(t) - chance, 1 - chance)


def _ratio(over: Array, under: Array) -> Array:
    """Divide; 0 / 0 is undefined, NaN: raters who all give one answer have no kappa."""
    under = np.asarray(under)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(np.abs(under) > 1e-12, over / under, np.nan))


# --- with intervals ------------------------------------------------------------------------------------


def agreement(
    ratings: NDArray[np.int64], patients: NDArray[np.int64], answers: tuple[str, ...], seed: int = 0
) -> dict[str, Any]:
    """Return every statistic of one question, with 95 % intervals over resampled patients.

    Args:
        ratings: (items, raters), at least one item; places in `answers`, or MISSING.
        patients: (items,), the clusters.
        answers: the categories.
        seed: of the resampling.

    Returns:
        doubled, the items with two answers or more; patients, whose they are; and statistics: by name value, lo and
        hi, None where undefined, lo and hi also where patients are too few for an interval.
    """
    counted = tally(ratings, patients, len(answers))
    clusters = len(counted.rated)
    functions = _statistics(answers)

    def score(weights: Array) -> Array:
        drawn = counted.resample(weights)
        return np.stack([function(drawn) for function in functions.values()], axis=-1)  # (draws, statistics)

    items = counted.doubled
    weighs = np.stack([_weights(counted, name, answers) for name in functions], axis=-1)  # (patients, statistics)
    draws = Draws(
        point=score(np.ones((1, clusters)))[0],
        boot=np.concatenate([score(weights) for weights in resamples(clusters, DRAWS, seed)]),
        jackknife=score(1 - np.eye(clusters)),
        patients=(weighs > 0).sum(axis=0),
        effective=weighs.sum(axis=0) ** 2 / np.maximum((weighs**2).sum(axis=0), 1.0),
        share=np.array(["agreement" in name for name in functions]),  # the others can be below 0
    )
    found = draws.intervals()
    figures = zip(functions, found.point, found.lo, found.hi, strict=True)
    return {
        "doubled": int(items.sum()),
        "patients": int((items > 0).sum()),
        "statistics": {
            name: {"value": _number(value), "lo": _number(lo), "hi": _number(hi)} for name, value, lo, hi in figures
        },
    }


def _statistics(answers: tuple[str, ...]) -> dict[str, Callable[[Tally], Array]]:
    by_answer = {f"agreement on {answer}": partial(specific, category=place) for place, answer in enumerate(answers)}
    return {
        "percent agreement": percent,
        **by_answer,
        "Cohen's kappa": cohen_kappa,
        "Krippendorff's alpha": krippendorff_alpha,
        "Gwet's AC1": gwet_ac1,
    }


def _weights(counted: Tally, name: str, answers: tuple[str, ...]) -> Array:
    """Return what each patient adds to a statistic, (patients,); agreement on an answer lives where it was given."""
    answer = name.removeprefix("agreement on ")
    return counted.pairs[:, answers.index(answer)].sum(-1) if answer in answers else counted.doubled


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
