"""The figures of an evaluation, looked up and written: one way to write a number, whoever prints it."""

from __future__ import annotations

from typing import Any

import polars as pl

from evaluation.ladder import Rule
from evaluation.metrics import Metric, Unit
from evaluation.predict import DEFAULT_METHOD, LABELS

WITH_INTERVAL = ("jaccard",)
"""Metrics whose interval stands beside them in a table."""
UNDEFINED = "–"


class Figures:
    """The figures of an evaluation, to be looked up and written."""

    def __init__(self, results: pl.DataFrame) -> None:
        keys = ("row", "metric", "convention", "rung", "rule")
        self._lines = {tuple(line[key] for key in keys): line for line in results.iter_rows(named=True)}

    def find(
        self, row: str, metric: str, convention: str = "ours", rung: str = "drug", rule: Rule = Rule.SET
    ) -> dict[str, Any]:
        """Return a line of results.csv; an empty one where a row has no such figure."""
        return self._lines.get((row, metric, convention, rung, rule.value), {"value": None, "lo": None, "hi": None})

    def text(self, row: str, metric: Metric) -> str:
        """Return a metric of a row as the main table has it."""
        line = self.find(row, metric.name)
        value = written(line["value"], metric.unit)
        if metric.name in WITH_INTERVAL and line["lo"] is not None:
            return f"{value} [{written(line['lo'], metric.unit)}, {written(line['hi'], metric.unit)}]"
        return value


def training_of(row: dict[str, Any], about: dict[str, Any]) -> str:
    """Return which training a checkpoint's row is of: its rank, and what is not a list of fa-lora with seed 0.

    Args:
        row: of `about`.
        about: the content of evaluation.json.
    """
    found = about["checkpoints"][row["name"]]
    method, seed = found.get("method", DEFAULT_METHOD), found.get("seed", 0)
    said = [LABELS] * (found.get("objective") == LABELS) + [method] * (method not in (DEFAULT_METHOD, "full"))
    said += [f"seed {seed}"] * bool(seed)
    return ", ".join((str(row["rank"]), *said))


def written(value: float | None, unit: Unit) -> str:
    """Write a value, or a dash where there is none."""
    if value is None:
        return UNDEFINED
    return f"{100 * value:.1f} %" if unit is Unit.SHARE else f"{value:.3f}" if unit is Unit.SCORE else f"{value:.1f}"
