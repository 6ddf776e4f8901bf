"""Baselines that copy a whole list: another patient's, or the patient's own of the previous admission.

Their scores rank drugs and are no probabilities. Left to themselves they give the list as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from etl.domain import Admission
from etl.prompts import render_prompt
from serving.baselines.baseline import Baseline, ranking, recommendation
from serving.baselines.design import Floats, Visits, indicators
from serving.recommendation import Recommendation


class _Copy(Baseline):
    """A copied drug scores 1 or more, any other its popularity below 1, so that the commonest fill a list up."""

    probable = False

    def __init__(self, training: Visits) -> None:
        super().__init__(training)
        self.filling = np.minimum(self.popularity, np.nextafter(1, 0))

    def own_lengths(self, admissions: Sequence[Admission], scores: Floats) -> NDArray[np.int64]:
        """Return the lengths of the copied lists; the usual one where there is none."""
        copied = (scores >= 1).sum(axis=1) + [len(self._unlisted(admission)) for admission in admissions]
        return np.where(copied > 0, copied, self.usual_length)

    def _draft(self, admission: Admission, scores: Floats, length: int) -> Recommendation:
        listed = [self.formulary[place] for place in ranking(scores)]
        copied = int((scores >= 1).sum())
        return recommendation((*listed[:copied], *self._unlisted(admission), *listed[copied:])[:length])

    def _unlisted(self, admission: Admission) -> tuple[str, ...]:
        """Return copied drugs that no training admission had."""
        return ()


class Random(_Copy):
    """The list of a training patient drawn at random; a shorter one is cut at random.

    The same admission always gets the same list: what is known of it seeds the draw.
    """

    name = "random"

    def __init__(self, training: Visits) -> None:
        super().__init__(training)
        self._ordered = training.ordered

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return the copied list in a drawn order."""
        scores = np.tile(self.filling, (len(admissions), 1))
        for row, admission in zip(scores, admissions, strict=True):
            draw = np.random.default_rng(_seed(admission))
            visit = draw.integers(self._ordered.shape[0])
            drugs = self._ordered.indices[self._ordered.indptr[visit] : self._ordered.indptr[visit + 1]]
            row[drugs] = 1 + draw.random(len(drugs))
        return scores


class Previous(_Copy):
    """The previous admission's drugs, commonest first, then the commonest others.

    A previous drug that no training admission had is copied too, after the others.
    """

    name = "previous"

    def __init__(self, training: Visits) -> None:
        super().__init__(training)
        self._columns = {drug: place for place, drug in enumerate(self.formulary)}

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return the previous list above all others, each in the order of popularity."""
        copied = indicators([admission.previous_drugs or () for admission in admissions], self._columns)
        return self.filling + copied.toarray()

    def _unlisted(self, admission: Admission) -> tuple[str, ...]:
        return tuple(sorted(set(admission.previous_drugs or ()).difference(self._columns)))


def _seed(admission: Admission) -> int:
    facts = render_prompt(admission)[1]["content"]
    return int.from_bytes(hashlib.sha256(facts.encode()).digest()[:8])
