"""Find the training admissions nearest to an admission by its ICD codes, to be shown as examples."""

from __future__ import annotations

import numpy as np
import polars as pl

from etl.domain import Split
from etl.errors import ContractError
from evaluation.strategies.strategy import Sample

CATEGORY_CHARACTERS = 3
"""An ICD code's category: I50.9 is of I50. Whole codes hardly ever meet."""


class Examples:
    """Training admissions, found by Jaccard overlap of their sets of ICD categories; versions are kept apart."""

    def __init__(self, training: pl.DataFrame) -> None:
        """Index the admissions' codes: those of the stay, or of earlier stays where the stay's are not known.

        Args:
            training: rows of samples.parquet.

        Raises:
            ContractError: a row is not of the training split, whose answers alone may be shown.
        """
        if other := set(training["split"].to_list()) - {Split.TRAIN.value}:
            raise ContractError(f"examples of split {', '.join(sorted(other))}; only the training split may be shown")
        self._training = training
        self._subjects = training["subject_id"].to_numpy()
        codes = _categories(training)
        self._sizes = np.bincount(codes["row"].to_numpy(), minlength=training.height)
        grouped = codes.group_by("code").agg("row")
        self._rows = {code: rows.to_numpy() for code, rows in zip(grouped["code"], grouped["row"], strict=True)}

    def nearest(self, sample: Sample, shots: int) -> list[Sample]:
        """Return the nearest admissions of other patients, nearest first; of equals the earlier in training.

        Args:
            sample: a row of samples.parquet, of any split.
            shots: how many, fewer where training has no more.
        """
        codes = _categories(pl.DataFrame([sample], schema=self._training.schema))["code"]
        found = [self._rows[code] for code in codes if code in self._rows]
        shared = np.bincount(np.concatenate([*found, []]).astype(int), minlength=len(self._sizes))
        likeness = shared / np.maximum(self._sizes + len(codes) - shared, 1)
        likeness[self._subjects == sample["subject_id"]] = -1
        if shots < len(likeness):  # sorting a few instead of all
            least = np.partition(likeness, -shots)[-shots] if shots else np.inf
            places = np.flatnonzero(likeness >= least)
        else:
            places = np.arange(len(likeness))
        order = places[np.argsort(-likeness[places], kind="stable")][:shots]
        return [self._training.row(int(row), named=True) for row in order if likeness[row] >= 0]


def _categories(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct pairs of row and ICD category, as `code`, in the order of the rows."""
    known = pl.when(pl.col("diagnoses").list.len() > 0).then("diagnoses").otherwise("earlier_diagnoses")
    diagnosis = pl.col("diagnosis").struct
    category = diagnosis.field("icd_code").str.head(CATEGORY_CHARACTERS)
    return (
        samples.select(known.alias("diagnosis"))
        .with_row_index("row")
        .explode("diagnosis")
        .select("row", pl.format("{}:{}", diagnosis.field("icd_version"), category).alias("code"))
        .drop_nulls()
        .unique(maintain_order=True)
    )
