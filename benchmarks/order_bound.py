"""Measure how far a checkpoint's drafts move when an admission's diagnoses are only put in another order.

Every validation admission whose diagnoses fit into the prompt, two of them at least, is drafted in the coders' order
and in seeded shuffles. Told are the moves of the listed drugs' probabilities and the Jaccard index of the lists, for
drafts as they are served and for scores averaged over several orders, each average of other orders than its rival's.
The last line is JSON. Not measured: whether the order should matter, as the first diagnosis is the principal one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Split
from serving.probabilities.calibration import Calibration
from serving.recommenders.labels import LabelRecommender
from serving.recommenders.lists import Recommender, load_recommenders

Floats = NDArray[np.float64]

AVERAGED = (2, 4)
"""Orders that are averaged over."""


def measure(checkpoint: Path, cohort: Path, base: str | None = None, most: int = 300) -> dict[str, Any]:
    """Return the moves of a checkpoint's drafts.

    Args:
        checkpoint: of `rxdraft train`; its probabilities are those it is served with.
        cohort: the one it was trained on.
        base: where the base lies now; None: where training had it.
        most: admissions drafted.
    """
    [recommender] = load_recommenders([checkpoint], base)
    admissions = shufflable(recommender, cohort)[:most]
    coded = draft(recommender, admissions)
    orders = [draft(recommender, shuffled(admissions, seed)) for seed in range(2 * max(AVERAGED))]
    found: dict[str, Any] = {"admissions": len(admissions), "served": moves(coded, orders[0])}
    if coded.chances is not None:
        for count in AVERAGED:
            one, other = (averaged(recommender, orders[start : start + count]) for start in (0, count))
            found[f"mean_of_{count}"] = moves(one, other)
    return found


def shufflable(recommender: Recommender | LabelRecommender, cohort: Path) -> list[Admission]:
    """Return validation admissions of two diagnoses or more that all fit: a cut one would lose others when shuffled."""
    read = [to_admission(sample) for sample in read_samples(cohort, Split.VALIDATION).iter_rows(named=True)]
    several = [admission for admission in read if len(admission.diagnoses) > 1]
    _, dropped = recommender.encode(several)
    return [admission for admission, left_out in zip(several, dropped, strict=True) if not left_out]


def shuffled(admissions: Sequence[Admission], seed: int) -> list[Admission]:
    """Return admissions with their diagnoses in another order, each its own."""
    draw = np.random.default_rng(seed)
    orders = [draw.permutation(len(admission.diagnoses)) for admission in admissions]
    return [
        replace(one, diagnoses=tuple(one.diagnoses[place] for place in order))
        for one, order in zip(admissions, orders, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Drafts:
    """What was drafted for admissions.

    Attributes:
        lists: places in the formulary.
        chances: every drug's probability, (admissions, formulary); None where nobody knows them.
    """

    lists: list[list[int]]
    chances: Floats | None


def draft(recommender: Recommender | LabelRecommender, admissions: Sequence[Admission]) -> Drafts:
    """Return drafts as the service gives them."""
    places = {drug: place for place, drug in enumerate(recommender.vocabulary.formulary)}
    drafted = recommender.recommend(admissions)
    lists = [[places[drug] for drug in one.answer.drugs] for one in drafted]
    known = [one.chances for one in drafted if one.chances is not None]
    return Drafts(lists, np.array(known) if len(known) == len(drafted) else None)


def averaged(recommender: Recommender | LabelRecommender, orders: Sequence[Drafts]) -> Drafts:
    """Return what a service would draft that takes the mean probability over several orders."""
    chances = np.mean([one.chances for one in orders], axis=0)
    lengths = (recommender.calibration or Calibration()).cut.lengths(chances)
    ranked = np.argsort(-chances, axis=1, kind="stable")
    return Drafts([row[:length].tolist() for row, length in zip(ranked, lengths, strict=True)], chances)


def moves(one: Drafts, other: Drafts) -> dict[str, float]:
    """Return how far apart two drafts of the same admissions are; probabilities are those of `one`'s listed drugs."""
    pairs = [(set(mine), set(theirs)) for mine, theirs in zip(one.lists, other.lists, strict=True)]
    jaccard = [len(mine & theirs) / len(mine | theirs) for mine, theirs in pairs]
    found = {"lists_jaccard": mean(jaccard), "lists_equal": mean(value == 1 for value in jaccard)}
    if one.chances is None or other.chances is None:
        return found
    apart = np.abs(one.chances - other.chances)
    listed = np.concatenate([row[places] for row, places in zip(apart, one.lists, strict=True)])
    quantiles = zip(("median", "p95", "p99", "max"), np.quantile(listed, (0.5, 0.95, 0.99, 1)), strict=True)
    return {"drugs": len(listed), **{name: round(float(value), 4) for name, value in quantiles}, **found}


def mean(values: Iterable[float]) -> float:
    """Return a mean, rounded to be read."""
    return round(float(np.mean(list(values))), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint of `rxdraft train`")
    parser.add_argument("--data", type=Path, required=True, help="its cohort")
    parser.add_argument("--base", help="where the base lies now")
    parser.add_argument("--most", type=int, default=300, help="admissions drafted")
    given = parser.parse_args()
    print(json.dumps(measure(given.model, given.data, given.base, given.most)))
