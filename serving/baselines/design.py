"""Admissions as baselines see them: the diagnoses they go by, sets of names as sparse rows of ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from etl.cohort import to_admission
from etl.domain import Admission, Diagnosis

Floats = NDArray[np.float64]


def known_diagnoses(admission: Admission) -> tuple[Diagnosis, ...]:
    """Return the diagnoses a baseline goes by: this stay's, or where they are not known, those of earlier stays."""
    return admission.diagnoses or admission.earlier_diagnoses or ()


def indicators(sets: Sequence[Iterable[str]], columns: dict[str, int]) -> sparse.csr_array:
    """Return which names each set holds, (sets, columns); names without a column are left out."""
    rows = [sorted({columns[name] for name in names if name in columns}) for names in sets]
    starts = np.cumsum([0, *map(len, rows)])
    places = np.fromiter((place for row in rows for place in row), dtype=np.int32, count=starts[-1])
    return sparse.csr_array((np.ones(len(places)), places, starts), shape=(len(rows), len(columns)))


def columns_of(sets: Iterable[Collection[str]]) -> dict[str, int]:
    """Give every name that occurs a column, in the order of the alphabet."""
    return {name: place for place, name in enumerate(sorted(set().union(*sets)))}


@dataclass(frozen=True)
class Visits:
    """Admissions with their answers, as baselines learn from them.

    Attributes:
        formulary: the drugs a baseline may draft, commonest first.
        admissions: what was known.
        ordered: which drugs of the formulary were ordered, (visits, formulary), of 0 and 1.
        lengths: drugs ordered, in the formulary or not, (visits,).
        subjects: whose visits they are, by subject_id, (visits,).
    """

    formulary: tuple[str, ...]
    admissions: tuple[Admission, ...]
    ordered: sparse.csr_array
    lengths: NDArray[np.int64]
    subjects: NDArray[np.int64]

    @cached_property
    def popularity(self) -> Floats:
        """The share of visits in which each drug was ordered, (formulary,)."""
        return np.asarray(self.ordered.mean(axis=0)).ravel()

    def part(self, chosen: NDArray[np.bool_]) -> Visits:
        """Return some of the visits, of the same formulary."""
        admissions = tuple(compress(self.admissions, chosen))
        return Visits(self.formulary, admissions, self.ordered[chosen], self.lengths[chosen], self.subjects[chosen])


def read_visits(samples: pl.DataFrame, formulary: Sequence[str]) -> Visits:
    """Return rows of samples.parquet as visits.

    Args:
        samples: of one split.
        formulary: drugs of the training split, commonest first, as formulary.parquet has them.
    """
    lists = samples["drugs"].to_list()
    return Visits(
        formulary=tuple(formulary),
        admissions=tuple(to_admission(sample) for sample in samples.iter_rows(named=True)),
        ordered=indicators(lists, {drug: place for place, drug in enumerate(formulary)}),
        lengths=np.array([len(drugs) for drugs in lists], dtype=np.int64),
        subjects=samples["subject_id"].to_numpy(),
    )
