"""Baselines that count how often a drug is ordered: over everybody, by kind of disease, among the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from etl.domain import Admission, Diagnosis
from etl.icd import categories, chapter
from serving.baselines.baseline import Baseline
from serving.baselines.design import Floats, Visits, columns_of, indicators, known_diagnoses

PSEUDO_VISITS = 5
"""Weight of everybody's popularity in that of a kind of disease, in visits."""
NEIGHBOURS = 20
POPULARITY_WEIGHT = 1e-3
"""Of popularity beside the neighbours' votes: it orders the drugs that none of them had."""

_BLOCK = 1 << 24
"""Similarities held at once."""


class Popularity(Baseline):
    """The commonest drugs of the training admissions, the same for everybody; a score is their share of visits."""

    name = "popularity"

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return the same row for everybody."""
        return np.tile(self.popularity, (len(admissions), 1))


class _PopularityByKind(Baseline):
    """Popularity among the visits with a diagnosis of a kind, averaged over the distinct kinds of the admission.

    Among few visits it leans on everybody's. Without any kind that training knew it is everybody's.
    """

    @staticmethod
    def _kinds(diagnoses: Iterable[Diagnosis]) -> set[str]:
        raise NotImplementedError

    def __init__(self, training: Visits) -> None:
        super().__init__(training)
        found = [self._kinds(known_diagnoses(admission)) for admission in training.admissions]
        self._columns = columns_of(found)
        visits = indicators(found, self._columns)
        ordered = (visits.T @ training.ordered).toarray()  # (kinds, formulary)
        sizes = np.asarray(visits.sum(axis=0)).ravel()[:, None]
        self._shares = (ordered + PSEUDO_VISITS * self.popularity) / (sizes + PSEUDO_VISITS)

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return smoothed shares of visits."""
        visits = indicators([self._kinds(known_diagnoses(admission)) for admission in admissions], self._columns)
        return _weighted_mean(visits, self._shares, self.popularity)

    def _uses(self, diagnosis: Diagnosis) -> bool:
        return not self._kinds([diagnosis]).isdisjoint(self._columns)


class PopularityByChapter(_PopularityByKind):
    """Popularity by ICD-10 chapter: about twenty kinds of disease."""

    name = "popularity-by-chapter"

    @staticmethod
    def _kinds(diagnoses: Iterable[Diagnosis]) -> set[str]:
        return {found for name in categories(diagnoses) if (found := chapter(name)) is not None}


class PopularityByCategory(_PopularityByKind):
    """Popularity by ICD-10 category of three characters."""

    name = "popularity-by-category"
    _kinds = staticmethod(categories)


class NearestNeighbours(Baseline):
    """The votes of the training admissions whose ICD-10 categories are most alike, weighted by their Jaccard.

    A score is the share of the votes, with a trace of popularity; popularity alone where nobody is alike.
    """

    name = "knn"

    def __init__(self, training: Visits) -> None:
        super().__init__(training)
        found = [categories(known_diagnoses(admission)) for admission in training.admissions]
        self._columns = columns_of(found)
        visits = indicators(found, self._columns)
        self._sizes = visits.sum(axis=1)
        self._with_category = visits.T.tocsr()  # turned once, not at every draft
        self._ordered = training.ordered

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return shares of votes."""
        rows = max(1, _BLOCK // len(self._sizes))
        blocks = [self._votes(admissions[start : start + rows]) for start in range(0, len(admissions), rows)]
        votes = np.vstack([np.empty((0, len(self.formulary))), *blocks])
        return (votes + POPULARITY_WEIGHT * self.popularity) / (1 + POPULARITY_WEIGHT)

    def _votes(self, admissions: Sequence[Admission]) -> Floats:
        similar = self._similarities([categories(known_diagnoses(admission)) for admission in admissions])
        k = min(NEIGHBOURS, similar.shape[1])
        nearest = np.argpartition(similar, similar.shape[1] - k, axis=1)[:, -k:]  # (admissions, k)
        weights = np.take_along_axis(similar, nearest, axis=1)
        starts = np.arange(0, nearest.size + 1, k)
        votes = sparse.csr_array((weights.ravel(), nearest.ravel(), starts), shape=similar.shape)
        return _weighted_mean(votes, self._ordered, self.popularity)

    def _similarities(self, sets: Sequence[set[str]]) -> Floats:
        """Return the Jaccard of each set with each training admission's, (sets, training)."""
        shared = (indicators(sets, self._columns) @ self._with_category).toarray()
        sizes = np.array([max(len(names), 1) for names in sets])[:, None]  # of no name nothing is shared: 0 / 1
        shared /= sizes + self._sizes - shared
        return np.asarray(shared)

    def _uses(self, diagnosis: Diagnosis) -> bool:
        return not categories([diagnosis]).isdisjoint(self._columns)


def _weighted_mean(weights: sparse.csr_array, values: Floats | sparse.csr_array, otherwise: Floats) -> Floats:
    """Return each row's mean of values by its weights; `otherwise` where all its weights are 0."""
    totals = np.asarray(weights.sum(axis=1))[:, None]
    sums = weights @ values
    dense = sums.toarray() if sparse.issparse(sums) else sums
    return np.divide(dense, totals, out=np.tile(otherwise, (len(dense), 1)), where=totals > 0)
