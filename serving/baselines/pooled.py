"""One regression over all pairs of an admission and a drug, on top of a regression for each drug.

`logistic-history` learns what each earlier drug says of each drug, from few admissions each. That a drug the patient
had is likely to be ordered again, and how far all those regressions may be trusted, is learnt here once, from all drugs
together. What they say of the pairs it learns from comes of fits on other patients, or it would trust what they
know by heart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit

from etl.domain import Admission, Diagnosis
from serving.baselines.baseline import Baseline
from serving.baselines.design import Floats, Visits, indicators, known_diagnoses
from serving.baselines.frequencies import PSEUDO_VISITS
from serving.baselines.logistic import LogisticHistory
from serving.baselines.saved import read, write

log = logging.getLogger(__name__)

FACTS = 7
"""Known of a pair, see `_facts`."""
PAIRS = 2_000_000
"""To learn from at most, of evenly spaced admissions: 250 MB, and more change no result."""
_LEAST = 1e-3
"""Probabilities count as no nearer to 0 or 1: their logit would drown the rest."""
_RETURNS, _WEIGHTS = "returns", "pooled"


class Pooled(Baseline):
    """The probability by `logistic-history`, popularity and the previous list, weighed alike for every drug.

    With fewer than two training patients it is what `logistic-history` is.
    """

    name = "pooled"

    def __init__(self, training: Visits, keep: Path | None = None) -> None:
        """Fit it; the regressions for each drug are read where they are kept.

        Args:
            training: visits of the training split.
            keep: folder that keeps weights; None: none does.
        """
        super().__init__(training)
        self._first, self._returns = LogisticHistory(training, keep), returns(training)
        self._weights = _fit(*_held_out(training, keep))

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return probabilities."""
        *weights, intercept = self._weights
        logits = np.full((len(admissions), len(self.formulary)), intercept)
        for weight, fact in zip(weights, _facts(admissions, self._first, self._returns), strict=True):
            logits += weight * fact
        return np.asarray(expit(logits))

    def save(self, path: Path) -> None:
        """Write what `load` reads; the folder must be there."""
        arrays, about = self._first.to_parts()
        write(path, self.name, {**arrays, _RETURNS: self._returns, _WEIGHTS: self._weights}, about)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what was saved, without a cut.

        Raises:
            ContractError: the file is not what `save` wrote.
        """
        self = cls.__new__(cls)
        arrays, about = read(path, cls.name)
        self._first = LogisticHistory.of(arrays, about)
        self._returns, self._weights = arrays[_RETURNS], arrays[_WEIGHTS]
        self.formulary, self.popularity = self._first.formulary, self._first.popularity
        self.usual_length, self.cut = self._first.usual_length, None
        return self

    def _uses(self, diagnosis: Diagnosis) -> bool:
        return bool(self._first.known_categories([diagnosis]))


def returns(training: Visits) -> Floats:
    """Return how often each drug of a previous list was ordered again, (formulary,), in [0, 1].

    Among few such visits it leans on the share over all drugs.
    """
    had = _had(training.admissions, training.formulary)
    again, before = (np.asarray(counts.sum(axis=0)).ravel() for counts in (had.multiply(training.ordered), had))
    share = again.sum() / max(before.sum(), 1)
    return np.asarray((again + PSEUDO_VISITS * share) / (before + PSEUDO_VISITS))


def _facts(admissions: Sequence[Admission], first: LogisticHistory, returned: Floats) -> Iterator[Floats]:
    """Give the FACTS one after the other, each of a shape that broadcasts to (admissions, formulary)."""
    scored, had = _logits(first.scores(admissions)), _had(admissions, first.formulary).toarray()
    known = [admission.previous_drugs is not None for admission in admissions]
    diagnoses = [len(first.known_categories(known_diagnoses(admission))) for admission in admissions]
    yield scored
    yield _logits(first.popularity)
    yield had
    yield had * scored
    yield had * _logits(returned)
    yield np.array(known, dtype=float)[:, None]
    yield np.log1p(diagnoses)[:, None]


def _held_out(training: Visits, keep: Path | None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return facts of pairs by fits on other patients, (pairs, FACTS), and which were ordered, (pairs,)."""
    patients = np.random.default_rng(0).permutation(np.unique(training.subjects))
    if len(patients) < 2:
        return np.empty((0, FACTS)), np.empty(0, dtype=bool)
    asked = np.zeros(len(training.admissions), dtype=bool)
    asked[np.linspace(0, len(asked) - 1, max(1, PAIRS // len(training.formulary))).astype(int)] = True
    halves = [np.isin(training.subjects, half) for half in np.array_split(patients, 2)]
    pairs = [
        _pairs(training.part(~half), training.part(half & asked), keep and keep / f"half-{place}")
        for place, half in enumerate(halves, 1)
    ]
    facts, ordered = zip(*pairs, strict=True)
    return np.concatenate(facts), np.concatenate(ordered)


def _pairs(others: Visits, asked: Visits, keep: Path | None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what `_held_out` does for the visits asked of, by a fit on others."""
    facts = _facts(asked.admissions, LogisticHistory(others, keep), returns(others))
    rows = [np.broadcast_to(fact, asked.ordered.shape).ravel() for fact in facts]
    return np.stack(rows, axis=1), asked.ordered.toarray().ravel() > 0


def _fit(facts: Floats, ordered: NDArray[np.bool_]) -> Floats:
    """Return the weights of the facts and last the intercept, (FACTS + 1,)."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if ordered.all() or not ordered.any():  # nothing to tell apart: the first regression as it is
        return np.eye(FACTS + 1)[0]
    log.info("one regression on %d pairs", len(ordered))
    with threadpool_limits(1):  # sums over several threads differ from run to run
        fitted = LogisticRegression(max_iter=1000).fit(facts, ordered)
    return np.append(fitted.coef_[0], fitted.intercept_)


def _had(admissions: Sequence[Admission], formulary: tuple[str, ...]) -> sparse.csr_array:
    """Return which drugs each previous list held, (admissions, formulary)."""
    columns = {drug: place for place, drug in enumerate(formulary)}
    return indicators([admission.previous_drugs or () for admission in admissions], columns)


def _logits(probabilities: Floats) -> Floats:
    """Return log odds."""
    return np.asarray(logit(np.clip(probabilities, _LEAST, 1 - _LEAST)))
