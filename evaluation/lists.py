"""Lists of drugs as numbers, so that all visits are compared at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.ladder import RUNGS, Projection

Ints = NDArray[np.int64]

_LIMIT = 1 << 24
"""Above every drug's and class's number: visit and class share an integer."""


class Names:
    """Numbers for drugs, in the order they come, and for their classes at every rung of the ladder."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._numbers: dict[str, int] = {}
        self._known: list[dict[str, int]] = [{} for _ in RUNGS]
        self._rows: list[list[int]] = []

    def number(self, drug: str) -> int:
        """Return a drug's number, giving it one where it has none yet."""
        found = self._numbers.get(drug)
        if found is None:
            found = self._numbers[drug] = len(self._numbers)
            classes = zip(self._projection.classes(drug), self._known, strict=True)
            self._rows.append([-1 if one is None else known.setdefault(one, len(known)) for one, known in classes])
        return found

    def classes(self, rung: str) -> Ints:
        """Return the class of every drug numbered so far, (drugs,); -1: it has none."""
        return self._table()[:, RUNGS.index(rung)]

    def understood(self) -> NDArray[np.bool_]:
        """Return which drugs have an ingredient or a code, (drugs,)."""
        return np.asarray((self._table()[:, 1:] >= 0).any(axis=1))

    def _table(self) -> Ints:
        return np.array(self._rows, dtype=np.int64).reshape(-1, len(RUNGS))


class Lists:
    """One list a visit, each drug once.

    Attributes:
        visits: how many lists.
        visit, drug: (items,), in the order of the lists; drugs by their numbers.
    """

    def __init__(self, lists: Sequence[Iterable[str] | None], names: Names) -> None:
        distinct = [dict.fromkeys(drugs or ()) for drugs in lists]
        self._names, self.visits = names, len(lists)
        self._classed: dict[str, tuple[Ints, Ints]] = {}
        self.visit: Ints = np.repeat(np.arange(len(lists)), [len(drugs) for drugs in distinct])
        self.drug: Ints = np.array([names.number(drug) for drugs in distinct for drug in drugs], dtype=np.int64)

    def each(self) -> Ints:
        """Return visit and drug as one number, (items,), all different."""
        return self.visit * _LIMIT + self.drug

    def classed(self, rung: str) -> tuple[Ints, Ints]:
        """Return the classes of each visit, visit and class as one number, and how many drugs of it there are."""
        if rung not in self._classed:  # the truth is asked again for every row of the table
            classes = self._names.classes(rung)[self.drug] if len(self.drug) else self.drug
            mapped = classes >= 0
            self._classed[rung] = np.unique(self.visit[mapped] * _LIMIT + classes[mapped], return_counts=True)
        return self._classed[rung]

    def count(self, keys: Ints, weights: NDArray[np.generic] | None = None) -> Ints:
        """Count keys by visit, (visits,), or sum their weights."""
        return np.bincount(keys // _LIMIT, weights, minlength=self.visits).astype(np.int64)

    def lengths(self) -> Ints:
        """Return how many drugs each list has, (visits,)."""
        return np.bincount(self.visit, minlength=self.visits)


def drugs_of(keys: Ints) -> Ints:
    """Return the numbers of the drugs, or classes, in keys."""
    return keys % _LIMIT


def compare(predicted: Lists, truth: Lists, rung: str) -> dict[str, Ints]:
    """Count two lists a visit against each other at a rung, for all visits at once.

    Returns:
        (visits,) each: p, t: lengths without repeated classes, where drugs without a class count one each; tp:
        classes in both; one: pairs of a drafted and an ordered drug of one class, each drug in one pair.
    """
    (p_keys, p_drugs), (t_keys, t_drugs) = predicted.classed(rung), truth.classed(rung)
    both, p_at, t_at = np.intersect1d(p_keys, t_keys, assume_unique=True, return_indices=True)
    unmapped = [
        lists.lengths() - lists.count(keys, n)
        for lists, keys, n in ((predicted, p_keys, p_drugs), (truth, t_keys, t_drugs))
    ]
    return {
        "p": predicted.count(p_keys) + unmapped[0],
        "t": truth.count(t_keys) + unmapped[1],
        "tp": predicted.count(both),
        "one": predicted.count(both, np.minimum(p_drugs[p_at], t_drugs[t_at])),
    }
