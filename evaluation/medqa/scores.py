"""What answers to multiple-choice questions say: scores of each model, and its paired difference to the base.

Everything follows from per_item.parquet. Items are taken as independent of each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binomtest

from evaluation.medqa.exam import BASE
from evaluation.statistics.comparisons import holm

MARGIN = 0.03
"""Loss of accuracy that still counts as none, declared beforehand."""

DRAWS = 10_000
"""Bootstrap draws of an interval."""

LEVEL = 0.95

Row = dict[str, Any]


class Verdict(StrEnum):
    """Whether a checkpoint still knows what the base knew."""

    NON_INFERIOR = "non-inferior"
    INFERIOR = "inferior"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Scores:
    """One model on one file of questions; all but `items` are shares of all items, in [0, 1].

    Attributes:
        items: questions asked.
        chance: what guessing one option gives.
        likelihood: the right option is the likeliest.
        first: the greedy answer names the right option; one that names none is wrong. The primary score.
        interval: of `first`, Wilson, 95 %.
        parsed_first, parsed: the first try names an option; any try does.
        first_parsed: the first try that names an option names the right one.
        majority: most tries that name an option name the right one; of equals the earlier counts.
        any_try: at least one try names the right option.
        any_try_chance: what guessing gives for that, 1 - (1 - 1/options)^tries.
    """

    items: int
    chance: float
    likelihood: float
    first: float
    interval: tuple[float, float]
    parsed_first: float
    parsed: float
    first_parsed: float
    majority: float
    any_try: float
    any_try_chance: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A checkpoint less its base on the same items.

    Attributes:
        lost, gained: items that only the base, only the checkpoint has right.
        estimate: difference of the shares of right answers, in [-1, 1].
        interval: bootstrap over items, 95 %.
        p: McNemar's exact test, two-sided.
        p_holm: the same, corrected for the number of checkpoints.
        verdict: by the interval and the margin.
    """

    lost: int
    gained: int
    estimate: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    verdict: Verdict


def score(answers: pl.DataFrame) -> Scores:
    """Score one model on one file of questions.

    Args:
        answers: rows of per_item.parquet, at least one.
    """
    rows = list(answers.iter_rows(named=True))

    def share(chosen: Sequence[int | None]) -> float:
        return sum(place == row["answer"] for place, row in zip(chosen, rows, strict=True)) / len(rows)

    firsts = [row["tries"][0] for row in rows]
    named = [[place for place in row["tries"] if place is not None] for row in rows]
    right = sum(place == row["answer"] for place, row in zip(firsts, rows, strict=True))
    wilson = binomtest(right, len(rows)).proportion_ci(LEVEL, method="wilson")
    return Scores(
        items=len(rows),
        chance=_mean(1 / row["options"] for row in rows),
        likelihood=share([row["likeliest"] for row in rows]),
        first=right / len(rows),
        interval=(wilson.low, wilson.high),
        parsed_first=_mean(place is not None for place in firsts),
        parsed=_mean(map(bool, named)),
        first_parsed=share([places[0] if places else None for places in named]),
        majority=share([Counter(places).most_common(1)[0][0] if places else None for places in named]),
        any_try=_mean(row["answer"] in places for row, places in zip(rows, named, strict=True)),
        any_try_chance=_mean(1 - (1 - 1 / row["options"]) ** len(row["tries"]) for row in rows),
    )


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return math.fsum(found) / len(found)


# --- against the base -----------------------------------------------------------------------------------


def is_right(answers: pl.DataFrame, measure: str) -> list[bool]:
    """Return whether each item is right by a measure: "first", the greedy answer, or "likelihood"."""
    chosen = answers["tries"].list.first() if measure == "first" else answers["likeliest"]
    return chosen.eq_missing(answers["answer"]).to_list()


def differences(answers: pl.DataFrame, measure: str, margin: float = MARGIN, seed: int = 0) -> dict[str, Difference]:
    """Compare every checkpoint with the base on one file of questions.

    Args:
        answers: rows of per_item.parquet of one set, the base's among them.
        measure: see `is_right`.
        margin: see MARGIN.
        seed: of the bootstrap.

    Returns:
        By model, in the order of the rows; empty where only the base was asked.
    """
    models = {name: table for (name,), table in answers.group_by("model", maintain_order=True)}
    base = is_right(models.pop(BASE), measure)
    found = {name: compare(base, is_right(table, measure), margin, seed) for name, table in models.items()}
    corrected = holm([difference.p for difference in found.values()])
    return {name: replace(found[name], p_holm=float(p)) for name, p in zip(found, corrected, strict=True)}


def compare(base: Sequence[bool], tuned: Sequence[bool], margin: float = MARGIN, seed: int = 0) -> Difference:
    """Compare right and wrong answers to the same items.

    Args:
        base, tuned: right or not, item by item.
        margin: see MARGIN.
        seed: of the bootstrap.
    """
    lost = sum(before and not after for before, after in zip(base, tuned, strict=True))
    gained = sum(after and not before for before, after in zip(base, tuned, strict=True))
    interval = difference_interval(lost, gained, len(base), seed)
    p = mcnemar(lost, gained)
    return Difference(
        lost, gained, (gained - lost) / len(base), interval, p, p_holm=p, verdict=verdict(interval, margin)
    )


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p of McNemar's test: either change is as likely as the other.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)

    Source: McNemar, Psychometrika 1947;12:153-157, with binomial instead of chi-squared probabilities.
    """
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def difference_interval(lost: int, gained: int, items: int, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a paired difference.

    Items differ only in being lost, gained or unchanged, so drawing items is drawing these three counts. Each of
    the four cells of the 2x2 table gets half an item more, else few items without a loss would seem to prove that
    there is none.

    Source: Efron, Ann Stat 1979;7:1-26; the half items: Agresti & Min, Stat Med 2005;24:729-740.
    """
    cells = np.array([lost + 0.5, gained + 0.5, items - lost - gained + 1.0])
    drawn = np.random.default_rng(seed).multinomial(items, cells / cells.sum(), size=DRAWS)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / items, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def verdict(interval: tuple[float, float], margin: float = MARGIN) -> Verdict:
    """Return what an interval says of a loss: none worth the name, some, or either may be.

    A loss smaller than the margin is non-inferior even where it is certain.
    """
    low, high = interval
    if low > -margin:
        return Verdict.NON_INFERIOR
    return Verdict.INFERIOR if high < 0 else Verdict.INCONCLUSIVE
