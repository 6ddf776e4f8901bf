"""What a draft's probabilities hang on: each fact is left out in turn, and the recommender is asked again.

What is told is what this recommender would have said without the fact. It is no cause and no medical reason, and what
two facts say alike is told for neither. Age, sex and measurements are not left out: everybody has them, and an unknown
one is a question that training hardly saw.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.domain import Admission
from serving.recommendation import BusyError, Drafter, LateError, Recommendation, Voter

Floats = NDArray[np.float64]

LEAST_DROP = 0.07
"""Of a probability; 95 of 100 move by less where diagnoses are only shuffled (docs/explanations.md)."""
REASONS = 3
"""Facts told for a drug, at most."""
DIAGNOSES = 100
"""Left out in turn at most: what an explanation can cost."""
AT_ONCE = 8
"""Questions that one explanation has waiting at a service, so that it cannot crowd out other requests."""
ERROR_RATE = 0.05
"""Chance that a drug is told a fact that only the drawing of votes made look weighty, where all facts are idle."""

_DIGITS = 3
"""Of a drop: equal ones tie, whatever batch they were worked out in."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something known of an admission that can be left out.

    Attributes:
        field: diagnoses, earlier_diagnoses, previous_drugs or current_drugs.
        position: which diagnosis, from 1; None: the field as a whole.
    """

    field: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Without the fact the drug's probability is lower by `drop`; attributes as of `Fact`."""

    fact: str
    position: int | None
    drop: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of why a draft is as it is.

    Attributes:
        reasons: of each drafted drug, the largest drop first; None for a drug without a probability. None: see gaps.
        gaps: what was not tried: the diagnosis's position, where it is one, and why.
    """

    reasons: tuple[tuple[Reason, ...] | None, ...] | None
    gaps: tuple[tuple[int | None, str], ...] = ()


def explain(recommender: Drafter, admission: Admission, recommendation: Recommendation) -> Explanation:
    """Explain a draft by asking for all others at once."""
    if recommendation.chances is None:
        return _UNKNOWN
    kept, facts, gaps = _plan(admission, recommendation)
    others = recommender.recommend([without(kept, fact) for fact in facts]) if facts else []
    return _explanation(recommender, recommendation, facts, others, gaps)


async def explain_in_time(
    recommender: Drafter, admission: Admission, recommendation: Recommendation, seconds: float
) -> Explanation:
    """Explain a draft among other requests, a few questions at a time; without time for it, say so.

    Args:
        recommender: who drafted.
        admission: for whom.
        recommendation: what.
        seconds: until it is given up.
    """
    if recommendation.chances is None:
        return _UNKNOWN
    kept, facts, gaps = _plan(admission, recommendation)
    turn, ends, failed = asyncio.Semaphore(AT_ONCE), time.monotonic() + seconds, False

    async def ask(fact: Fact) -> Recommendation:
        async with turn:
            return await recommender.draft(without(kept, fact), ends - time.monotonic())

    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(fact)) for fact in facts]
    except* (BusyError, LateError, TimeoutError):
        failed = True
    if failed:
        return Explanation(None, ((None, "the service was too busy to draft it again without each fact"),))
    return _explanation(recommender, recommendation, facts, [task.result() for task in asked], gaps)


def without(admission: Admission, fact: Fact) -> Admission:
    """Return an admission of which a fact is not known."""
    changed: dict[str, Any] = {fact.field: None}
    if fact.position is not None:
        items = getattr(admission, fact.field)
        changed[fact.field] = items[: fact.position - 1] + items[fact.position :]
    return replace(admission, **changed)


def _plan(
    admission: Admission, recommendation: Recommendation
) -> tuple[Admission, list[Fact], tuple[tuple[int | None, str], ...]]:
    """Return the admission as far as it was read, the facts to leave out of that, and what is not tried.

    Diagnoses that the prompt had no room for are left out of all questions: in none would one move up.
    """
    kept = _as_read(admission, recommendation.dropped_diagnoses)
    own, earlier = len(kept.diagnoses), len(kept.earlier_diagnoses or ())
    gaps: list[tuple[int | None, str]] = []
    if own == 1 and kept.earlier_diagnoses is None:
        own, gaps = 0, [(1, "the only diagnosis cannot be left out")]
    diagnoses = [
        *(Fact("diagnoses", place) for place in range(1, own + 1)),
        *(Fact("earlier_diagnoses", place) for place in range(1, earlier + 1)),
    ]
    if len(diagnoses) > DIAGNOSES:
        gaps.append((None, f"only the first {DIAGNOSES} diagnoses were left out in turn"))
    whole = [Fact(name) for name in ("previous_drugs", "current_drugs") if getattr(kept, name)]
    return kept, diagnoses[:DIAGNOSES] + whole, tuple(gaps)


def _as_read(admission: Admission, dropped: int) -> Admission:
    """Return an admission without the diagnoses that did not fit, the end of the earlier ones first; one is kept."""
    earlier = admission.earlier_diagnoses
    if earlier is not None:
        gone = min(dropped, len(earlier))
        admission, dropped = replace(admission, earlier_diagnoses=earlier[: len(earlier) - gone]), dropped - gone
    read = max(len(admission.diagnoses) - dropped, earlier is None)
    return replace(admission, diagnoses=admission.diagnoses[:read])


def _explanation(
    recommender: Drafter,
    recommendation: Recommendation,
    facts: Sequence[Fact],
    others: Sequence[Recommendation],
    gaps: tuple[tuple[int | None, str], ...],
) -> Explanation:
    columns = {drug: place for place, drug in enumerate(recommender.vocabulary.formulary)}
    after = np.array([other.chances for other in others], dtype=np.float64).reshape(len(facts), len(columns))
    votes = recommender.votes if isinstance(recommender, Voter) else None
    drops = weighty(np.array(recommendation.chances), after, votes.samples if votes else None)
    reasons = tuple(
        _largest(facts, drops[:, columns[drug]]) if drug in columns else None for drug in recommendation.answer.drugs
    )
    return Explanation(reasons, gaps)


def weighty(before: Floats, after: Floats, samples: int | None) -> Floats:
    """Return how much each probability drops without each fact; 0 where that is too little to tell.

    Args:
        before: probabilities with all facts, (drugs,).
        after: without each fact, (facts, drugs).
        samples: lists whose votes each probability comes from; None: none are drawn, so there is no noise.

    Returns:
        (facts, drugs), in thousandths.
    """
    drops = np.round(before - after, _DIGITS)
    least = np.full_like(drops, LEAST_DROP)
    if samples is not None and len(after):
        least = np.maximum(least, _noise(before, after, samples, ERROR_RATE / len(after)))
    return np.where(drops >= least, drops, 0)


def _noise(before: Floats, after: Floats, samples: int, error_rate: float) -> Floats:
    """Return what two shares of votes with one chance behind both differ by, at most so often.

    The z test of two proportions: variance of the pooled share, continuity correction of half a vote on either side.
    It takes probabilities for shares of votes, from which calibration moves them a little.

    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd ed., section 3.3.
    """
    pooled = ((before + after) * samples + 1) / (2 * samples + 2)  # a vote for and one against: never 0 or 1
    z = NormalDist().inv_cdf(1 - error_rate)
    return np.asarray(z * np.sqrt(2 * pooled * (1 - pooled) / samples) + 1 / samples)


def _largest(facts: Sequence[Fact], drops: Floats) -> tuple[Reason, ...]:
    """Return the facts of the largest drops, in the order of the facts where drops tie."""
    places = np.argsort(-drops, kind="stable")[:REASONS]
    return tuple(
        Reason(facts[place].field, facts[place].position, float(drops[place])) for place in places if drops[place] > 0
    )


_UNKNOWN = Explanation(None, ((None, "this recommender gives no probabilities"),))
