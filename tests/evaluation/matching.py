"""Two lists matched at a rung, one visit at a time: the plain definition of `evaluation.lists.compare`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evaluation.ladder import RUNGS, Class, Projection, distinct


class Matches(NamedTuple):
    """Two lists, counted at a rung.

    Attributes:
        p, t: lengths without repeated classes; names without a class count one each.
        tp: classes in both.
        one: pairs of a drafted and an ordered drug of one class, each drug in one pair.
    """

    p: int
    t: int
    tp: int
    one: int


def match(predicted: Sequence[Class], truth: Sequence[Class]) -> Matches:
    """Count two lists of one rung against each other, by both rules."""
    p, t = set(predicted) - {None}, set(truth) - {None}
    left = list(truth)
    pairs = 0
    for one in predicted:
        if one is not None and one in left:
            left.remove(one)
            pairs += 1
    return Matches(distinct(predicted), distinct(truth), len(p & t), pairs)


def columns(projection: Projection, predicted: Iterable[str], truth: Iterable[str]) -> dict[str, int]:
    """Return a visit's ladder columns: `p_`, `t_`, `tp_`, `one_` by rung, and the names that have an ATC code.

    Args:
        predicted, truth: distinct names.
    """
    drafted, ordered = projection.rungs(predicted), projection.rungs(truth)
    counts = {rung: match(drafted[rung], ordered[rung]) for rung in RUNGS}
    found = {f"{name}_{rung}": n for rung, counted in counts.items() for name, n in counted._asdict().items()}
    mapped = {
        f"mapped_{side}": sum(one is not None for one in classes["atc3"])
        for side, classes in (("p", drafted), ("t", ordered))
    }
    return found | mapped
