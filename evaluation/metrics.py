"""What a score means: per admission from counts, then averaged over admissions.

T is the set of drugs ordered in the stay, P the set drafted, tp = |P ∩ T|. Every score is a function of one
`Visit`; no text is needed to compute any of them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from etl.prompts import Outcome


class Empty(StrEnum):
    """What an admission counts where nothing was drafted, or nothing was to be drafted."""

    DROP = "paper"
    """It is left out of the mean."""
    ZERO = "zero"
    """It counts 0."""
    ONE_IF_BOTH = "one_if_both_empty"
    """It counts 1 if both are empty and the answer was a list, else 0."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One admission's answer, counted.

    Attributes:
        outcome: of the answer; a baseline's list is `ok`.
        predicted, truth, true_positives: |P|, |T|, |P ∩ T|; |P| is 0 where the answer was no list.
        off_formulary: drafted drugs that no training admission had.
    """

    outcome: Outcome
    predicted: int
    truth: int
    true_positives: int
    off_formulary: int = 0


def count(
    predicted: Iterable[str],
    truth: Iterable[str],
    outcome: Outcome = Outcome.OK,
    formulary: Iterable[str] | None = None,
) -> Visit:
    """Count one admission's lists, as sets."""
    p, t = set(predicted), set(truth)
    unknown = 0 if formulary is None else len(p.difference(formulary))
    return Visit(outcome, len(p), len(t), len(p & t), unknown)


def precision(visit: Visit) -> float | None:
    """tp / p: the share of the drafted drugs that were ordered, the reference's "accuracy"; None if p = 0."""
    return visit.true_positives / visit.predicted if visit.predicted else None


def recall(visit: Visit) -> float | None:
    """tp / t; None if t = 0."""
    return visit.true_positives / visit.truth if visit.truth else None


def f1(visit: Visit) -> float | None:
    """2 tp / (p + t); None if both are 0."""
    total = visit.predicted + visit.truth
    return 2 * visit.true_positives / total if total else None


def jaccard(visit: Visit) -> float | None:
    """tp / |P ∪ T|; None if both are empty."""
    union = visit.predicted + visit.truth - visit.true_positives
    return visit.true_positives / union if union else None


def mean(scores: Sequence[float | None], visits: Sequence[Visit], empty: Empty) -> float | None:
    """Average over visits; an undefined score is handled as `empty` says. None where nothing is left.

    Args:
        scores: one per visit.
        visits: to tell which undefined scores have both lists empty.
        empty: the policy; every table prints which it used.
    """
    if empty is Empty.DROP:
        defined = [score for score in scores if score is not None]
        return fmean(defined) if defined else None
    both = 1.0 if empty is Empty.ONE_IF_BOTH else 0.0
    filled = [
        (both if visit.outcome.well_formed and visit.predicted == visit.truth == 0 else 0.0) if score is None else score
        for score, visit in zip(scores, visits, strict=True)
    ]
    return fmean(filled) if filled else None


@dataclass(frozen=True, slots=True)
class Scores:
    """A row of the table; None is "undefined", never 0.

    Attributes:
        admissions: scored.
        output_rate: share of answers that are a list, an empty list included; None for baselines.
        accuracy: the reference's: mean precision over well-formed answers that name a drug.
        accuracy_all: the same over all admissions, where an answer that is no list counts 0.
        recall, f1, jaccard: means over all admissions; no list counts 0.
        drugs: mean length of the well-formed lists.
        off_formulary: share of drafted drugs that no training admission had.
        outcomes: how many answers ended as what.
    """

    admissions: int
    output_rate: float | None
    accuracy: float | None
    accuracy_all: float | None
    recall: float | None
    f1: float | None
    jaccard: float | None
    drugs: float | None
    off_formulary: float | None
    outcomes: dict[str, int]


def score(visits: Sequence[Visit], *, baseline: bool = False) -> Scores:
    """Score one row: a checkpoint's visits, or a baseline's."""
    formed = [visit for visit in visits if visit.outcome.well_formed]
    items = sum(visit.predicted for visit in visits)

    def over_all(metric: Sequence[float | None]) -> float | None:
        return mean(metric, visits, Empty.ONE_IF_BOTH)

    outcomes = {outcome.value: sum(visit.outcome is outcome for visit in visits) for outcome in Outcome}
    return Scores(
        admissions=len(visits),
        output_rate=None if baseline or not visits else len(formed) / len(visits),
        accuracy=mean([precision(visit) for visit in formed], formed, Empty.DROP),
        accuracy_all=over_all([precision(visit) for visit in visits]),
        recall=over_all([recall(visit) for visit in visits]),
        f1=over_all([f1(visit) for visit in visits]),
        jaccard=over_all([jaccard(visit) for visit in visits]),
        drugs=fmean([visit.predicted for visit in formed]) if formed else None,
        off_formulary=sum(visit.off_formulary for visit in visits) / items if items else None,
        outcomes={name: number for name, number in outcomes.items() if number},
    )
