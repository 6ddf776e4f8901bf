"""What every baseline is: a score for each drug of the formulary, and a rule where to cut the ranking.

Knows no file and no service; each baseline says in its own class what a score is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from etl.domain import Admission, Diagnosis
from etl.prompts import Answer, Outcome, render_answer
from serving.baselines.design import Floats, Visits, known_diagnoses
from serving.recommendation import Recommendation

BATCH = 1024
"""Admissions scored at once: bounds memory, changes no score."""
VALIDATION_ADMISSIONS = 1024
"""At most so many, evenly spaced, choose the cut: where all drugs share one, more would hardly move it."""
CUTS = np.arange(1, 100) / 100
"""Probabilities from which a drug may be drafted."""


class Baseline(ABC):
    """A recommender that needs no language model.

    A list is the highest scores in their order, the commoner drug first among equals. Its length is the caller's;
    else the cut's: all drugs with a probability of at least `cut`; else the median length of the training lists.

    Attributes:
        formulary: the drugs it may draft, commonest first: the columns of its scores.
        cut: chosen on validation by `choose_cut`; None: not chosen.
    """

    name: ClassVar[str]
    probable: ClassVar[bool] = True
    """Whether a score is the probability that the drug is ordered."""

    def __init__(self, training: Visits) -> None:
        self.formulary = training.formulary
        self.popularity = training.popularity
        self.usual_length = round(float(np.median(training.lengths)))
        self.cut: float | None = None

    @abstractmethod
    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return how much speaks for each drug, (admissions, formulary)."""

    def recommend(
        self, admissions: Sequence[Admission], lengths: Sequence[int] | None = None, *, chances: bool = False
    ) -> list[Recommendation]:
        """Draft a list for each admission.

        Args:
            admissions: any number.
            lengths: how many drugs each list is to have, the whole formulary at most; None: the cut decides.
            chances: give those of the whole formulary too, where a score is one; drafts of a cohort would fill memory.
        """
        drafts: list[Recommendation] = []
        for start, batch in _batches(admissions):
            scores = self.scores(batch)
            wanted = self.own_lengths(batch, scores) if lengths is None else lengths[start : start + len(batch)]
            for admission, row, length in zip(batch, scores, wanted, strict=True):
                draft = self._draft(admission, row, int(length))
                drafts.append(replace(draft, chances=tuple(row.tolist())) if chances and self.probable else draft)
        return drafts

    def own_lengths(self, admissions: Sequence[Admission], scores: Floats) -> NDArray[np.int64]:
        """Return the lengths of lists for which nobody asked for another, (admissions,)."""
        if self.cut is None:
            return np.full(len(scores), self.usual_length, dtype=np.int64)
        return (scores >= self.cut).sum(axis=1, dtype=np.int64)

    def choose_cut(self, validation: Visits) -> None:
        """Cut where the mean F1 of the validation lists is highest, the highest such probability among equals."""
        if not self.probable or not validation.admissions:
            return
        visits = np.unique(np.linspace(0, len(validation.admissions) - 1, VALIDATION_ADMISSIONS).astype(int))
        totals = np.zeros(len(CUTS))
        for start, batch in _batches([validation.admissions[visit] for visit in visits]):
            chosen = visits[start : start + len(batch)]
            truth = validation.ordered[chosen].toarray() > 0
            totals += f1_sums(self.scores(batch), truth, validation.lengths[chosen])
        self.cut = float(CUTS[len(CUTS) - 1 - totals[::-1].argmax()])

    def _draft(self, admission: Admission, scores: Floats, length: int) -> Recommendation:
        places = ranking(scores)[:length]
        chances = tuple(float(scores[place]) for place in places) if self.probable else None
        drugs = tuple(self.formulary[place] for place in places)
        unused = (place for place, known in enumerate(known_diagnoses(admission), 1) if not self._uses(known))
        return recommendation(drugs, chances, tuple(unused))

    def _uses(self, diagnosis: Diagnosis) -> bool:
        """Tell whether training knew such a diagnosis; a baseline that goes by none misses none."""
        return True


def ranking(scores: Floats) -> NDArray[np.int64]:
    """Return the columns from the highest score to the lowest, in their own order where scores are equal."""
    return np.argsort(-scores, kind="stable")


def recommendation(
    drugs: tuple[str, ...], probabilities: tuple[float, ...] | None = None, unused_diagnoses: tuple[int, ...] = ()
) -> Recommendation:
    """Return a list as a model that writes it would have given it."""
    answer = Answer(Outcome.OK if drugs else Outcome.OK_EMPTY_LIST, drugs)
    return Recommendation(answer, render_answer(drugs), 0, probabilities, unused_diagnoses)


def f1_sums(scores: Floats, truth: NDArray[np.bool_], lengths: NDArray[np.int64]) -> Floats:
    """Return the sum of the visits' F1 at each of `CUTS`, (cuts,).

    Args:
        scores: (visits, formulary).
        truth: what was ordered, (visits, formulary).
        lengths: drugs ordered, in the formulary or not, (visits,); positive.
    """
    levels = np.searchsorted(CUTS, scores, side="right")  # how many cuts a score passes, 0 to 99
    rows = np.arange(len(scores))[:, None] * (len(CUTS) + 1) + levels
    shape, size = (len(scores), len(CUTS) + 1), len(scores) * (len(CUTS) + 1)
    drafted = _passing(np.bincount(rows.ravel(), minlength=size).reshape(shape))
    hits = _passing(np.bincount(rows[truth], minlength=size).reshape(shape))
    return np.asarray((2 * hits / (drafted + lengths[:, None])).sum(axis=0))


def _passing(at_level: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn counts of scores at each level into counts that pass each cut, (visits, cuts)."""
    return at_level[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]


def _batches(admissions: Sequence[Admission]) -> Iterator[tuple[int, Sequence[Admission]]]:
    for start in range(0, len(admissions), BATCH):
        yield start, admissions[start : start + BATCH]
