"""How often a drug was ordered in training admissions of the same kind: counts of the cohort, no model's opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from etl.domain import Admission
from etl.icd import category

FILE = "evidence.parquet"
"""Of a cohort, and of the vocabulary that a checkpoint took from it; older ones have none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """In `ordered` of `admissions` training admissions with a principal diagnosis of the category.

    Attributes:
        category: of ICD-10, three characters.
        ordered: None: hidden, since it would tell of fewer than 11 patients; see sql/evidence.sql.
        admissions: of 11 patients or more, unless the cohort is open data.
    """

    category: str
    ordered: int | None
    admissions: int


class CohortEvidence:
    """The counts that lie in a folder; read when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def of(self, admission: Admission, drugs: Sequence[str]) -> list[Evidence | None]:
        """Return the evidence for each of an admission's drugs.

        Args:
            admission: its principal diagnosis is the first.
            drugs: of the formulary.

        Returns:
            One for each drug; None where the principal diagnosis has no code, or its category too few patients.
        """
        first = admission.diagnoses[0] if admission.diagnoses else None
        if first is None or first.icd_code is None or first.icd_version is None:
            return [None] * len(drugs)
        name = category(first.icd_code, first.icd_version)
        counts = self._counts.filter(pl.col("category") == name)
        if counts.is_empty():
            return [None] * len(drugs)
        ordered, admissions = dict(counts.select("drug", "ordered").iter_rows()), counts["admissions"][0]
        return [Evidence(name, ordered.get(drug, 0), admissions) for drug in drugs]

    def admissions(self) -> dict[str, int]:
        """Return how many training admissions had a principal diagnosis of each category, where it may be told."""
        return dict(self._counts.select("category", "admissions").unique().iter_rows())

    @cached_property
    def _counts(self) -> pl.DataFrame:
        schema = {"category": pl.String, "drug": pl.String, "ordered": pl.Int64, "admissions": pl.Int64}
        return pl.read_parquet(self._path) if self._path.is_file() else pl.DataFrame(schema=schema)
