"""What a row's scores are worth, counted per visit: its ranking, and its probabilities where they are some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evaluation.conventions import average_precision
from evaluation.statistics.ratios import Floats, divide

_CHUNK = 2048
"""Visits at once; several numbers are worked out for every drug of each."""
LEVELS = 100
"""Probabilities are told apart to 1 / LEVELS."""


def scored_columns(
    scores: Floats, ordered: NDArray[np.bool_], drugs: NDArray[np.int64], probable: bool
) -> pl.DataFrame:
    """Count what the scores of a row say.

    Columns: average_precision, over the formulary and the ordered drugs that training never had, which are never
    found; brier_sum and brier_n over the formulary; level_p, level_n, level_y: the probabilities rounded, how many
    drugs have each, and how many of those were ordered.

    Args:
        scores: (visits, formulary).
        ordered: which drugs of the formulary were ordered, (visits, formulary).
        drugs: ordered, in the formulary or not, (visits,).
        probable: scores are probabilities; else only their order counts.
    """
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(scores), _CHUNK)]
    found = [_columns(scores[chunk], ordered[chunk], drugs[chunk], probable) for chunk in chunks]
    return pl.concat([unscored_columns(0), *found], rechunk=True)


def _columns(scores: Floats, ordered: NDArray[np.bool_], drugs: NDArray[np.int64], probable: bool) -> pl.DataFrame:
    share = divide(ordered.sum(axis=1), drugs, undefined=0.0)
    columns: dict[str, Any] = {"average_precision": average_precision(ordered, scores) * share}
    if probable:
        columns |= {
            "brier_sum": ((scores - ordered) ** 2).sum(axis=1),
            "brier_n": np.full(len(scores), scores.shape[1]),
            **_levels(scores, ordered),
        }
    known = {name: kind for name, kind in SCHEMA.items() if name in columns}
    return unscored_columns(len(scores)).with_columns(pl.DataFrame(columns, schema=known))


def unscored_columns(visits: int) -> pl.DataFrame:
    """Return the same columns for a row that gives lists alone: nothing is known."""
    return pl.DataFrame(schema=SCHEMA).clear(visits)


def _levels(scores: Floats, ordered: NDArray[np.bool_]) -> dict[str, list[Sequence[float]]]:
    level = np.rint(np.clip(scores, 0, 1) * LEVELS).astype(np.int64)
    cell = np.arange(len(scores))[:, None] * (LEVELS + 1) + level
    shape, size = (len(scores), LEVELS + 1), len(scores) * (LEVELS + 1)
    n = np.bincount(cell.ravel(), minlength=size).reshape(shape)
    y = np.bincount(cell[ordered], minlength=size).reshape(shape)
    used = [np.flatnonzero(row) for row in n]
    return {
        "level_p": [(at / LEVELS).tolist() for at in used],
        "level_n": [row[at].tolist() for row, at in zip(n, used, strict=True)],
        "level_y": [row[at].tolist() for row, at in zip(y, used, strict=True)],
    }


SCHEMA: dict[str, Any] = {
    "average_precision": pl.Float64,
    "brier_sum": pl.Float64,
    "brier_n": pl.Int64,
    "level_p": pl.List(pl.Float64),
    "level_n": pl.List(pl.Int64),
    "level_y": pl.List(pl.Int64),
}
