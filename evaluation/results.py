"""All figures, from the per-visit table alone: each with its interval, what it is a mean of, and an id.

The columns are `SCHEMA`'s: one figure a line. Rows, metrics, conventions and rungs meet the same redrawn patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl

from etl.artefacts import sha256
from evaluation.conventions import CONVENTIONS
from evaluation.drafts import Kind
from evaluation.interactions import interaction_scores
from evaluation.ladder import RUNGS, Rule, coverage, rung_scores
from evaluation.metrics import BY_NAME, METRICS, Metric, Over, Unit, scores
from evaluation.statistics import ratios
from evaluation.statistics.bootstrap import DRAWS, Draws, draw
from evaluation.statistics.chance import skill
from evaluation.statistics.ratios import Ratio

LITERATURE_RUNG = "atc3"
"""Where the field's conventions are at home; they are given there and on drug names."""
AGAINST_ORACLE = ("f1", "jaccard")
"""Scores given also as shares of the oracle's, where a row is one: `oracle_share_` and the score."""
_COUNTS = {metric.name for metric in METRICS if metric.unit is Unit.DRUGS} | {"novel_per_100"}
_BATCH_NUMBERS = 1 << 22
"""Of visits times figures; some four copies of each number are held at once."""

SCHEMA: dict[str, Any] = {
    "row": pl.String,
    "metric": pl.String,
    "convention": pl.String,
    "estimand": pl.String,
    "rung": pl.String,
    "rule": pl.String,
    "value": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "visits": pl.Int64,
    "patients": pl.Int64,
    "mark": pl.String,
    "provenance_id": pl.String,
}


@dataclass(frozen=True, slots=True)
class Redrawn:
    """How patients are redrawn: all that decides an interval beside the table."""

    draws: int = DRAWS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Key:
    """Which figure."""

    row: str
    metric: str
    convention: str
    estimand: str
    rung: str
    rule: str

    @property
    def is_share(self) -> bool:
        """Whether it lies in [0, 1]; counts do not, nor does what is measured against another patient or the oracle."""
        return self.metric not in _COUNTS and not self.metric.startswith(("skill_", "oracle_share_"))


def tabulate(visits: pl.DataFrame, origin: str, redrawn: Redrawn = Redrawn()) -> pl.DataFrame:
    """Return every figure of the per-visit table, see SCHEMA; what is None is told by the mark.

    Args:
        visits: as `evaluation/visits.py` has it, row after row, all with the same visits.
        origin: digest of that table; with the key and the draws it makes a figure's provenance_id.
        redrawn: how patients are redrawn.
    """
    subjects = next(iter(by_row(visits).values()))["subject_id"].to_numpy()
    lines = [line for figures in _batches(visits) for line in _lines(figures, subjects, origin, redrawn)]
    return pl.DataFrame(lines, schema=SCHEMA, orient="row")


def _batches(visits: pl.DataFrame) -> Iterator[list[tuple[Key, Ratio]]]:
    """Yield all figures, as many at once as may be in memory."""
    batch: list[tuple[Key, Ratio]] = []
    for figure in _figures(visits):
        batch.append(figure)
        if len(batch) * len(figure[1].num) >= _BATCH_NUMBERS:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(figures: list[tuple[Key, Ratio]], subjects: Any, origin: str, redrawn: Redrawn) -> Iterator[tuple[Any, ...]]:
    drawn = _draw(subjects, figures, redrawn)
    found = drawn.intervals()
    for i, (key, figure) in enumerate(figures):
        about = f"{origin} {key.row}|{key.metric}|{key.convention}|{key.estimand}|{key.rung}|{key.rule}"
        yield (
            *(key.row, key.metric, key.convention, key.estimand, key.rung, key.rule),
            *(_defined(x) for x in (found.point[i], found.lo[i], found.hi[i])),
            int((figure.den > 0).sum()),
            int(drawn.patients[i]),
            str(found.mark[i]),
            sha256(f"{about}|{redrawn.draws}|{redrawn.seed}".encode())[:12],
        )


def metric_draws(visits: pl.DataFrame, metric: str, rows: list[str], redrawn: Redrawn) -> Draws:
    """Return the draws of one metric, a column a row of the table."""
    tables = by_row(visits)
    figures = [(_key(row, BY_NAME[metric]), BY_NAME[metric].of(tables[row])) for row in rows]
    return _draw(tables[rows[0]]["subject_id"].to_numpy(), figures, redrawn)


def by_row(visits: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the part of each row of the table; they lie one after another, so that none is copied."""
    lengths = visits["row"].rle().struct.field("len").to_list()
    parts = [visits.slice(start, n) for start, n in zip(accumulate(lengths, initial=0), lengths, strict=False)]
    return {part["row"][0]: part for part in parts}


def _draw(subjects: Any, figures: list[tuple[Key, Ratio]], redrawn: Redrawn) -> Draws:
    num = np.stack([ratio.num for _, ratio in figures], axis=1)
    den = np.stack([ratio.den for _, ratio in figures], axis=1)
    return draw(subjects, num, den, draws=redrawn.draws, seed=redrawn.seed, share=[key.is_share for key, _ in figures])


def _figures(visits: pl.DataFrame) -> Iterator[tuple[Key, Ratio]]:
    tables = by_row(visits)
    oracle = next((scores(table) for table in tables.values() if table["kind"][0] == Kind.ORACLE), None)
    for row, table in tables.items():
        for metric in METRICS:
            yield _key(row, metric), metric.of(table)
        if oracle is not None:  # a sum over a sum, as all figures are: the ratio of two means
            for name in AGAINST_ORACLE:
                key = Key(row, f"oracle_share_{name}", "ours", Over.ALL, "drug", Rule.SET)
                yield key, ratios.ratio(scores(table)[name], oracle[name])
        for side, ratio in coverage(table).items():
            yield Key(row, f"mapped_{side}", "ours", Over.ITEMS, LITERATURE_RUNG, Rule.SET), ratio
        for rung in RUNGS:
            yield from _rung(row, table, rung)
        for name, ratio in interaction_scores(table).items():
            yield Key(row, name, "ours", Over.FORMED, "drug", Rule.SET), ratio
        for convention, score in CONVENTIONS.items():
            for rung in ("drug", LITERATURE_RUNG):
                for name, ratio in score(table, rung).items():
                    yield Key(row, name, convention, "as the convention has it", rung, Rule.SET), ratio


def _key(row: str, metric: Metric) -> Key:
    return Key(row, metric.name, "ours", metric.over, "drug", Rule.SET)


def _rung(row: str, table: pl.DataFrame, rung: str) -> Iterator[tuple[Key, Ratio]]:
    for rule in Rule:
        for name, ratio in rung_scores(table, rung, rule).items():
            yield Key(row, f"ladder_{name}", "ours", Over.ALL, rung, rule), ratio
            if rule is Rule.ONE_TO_ONE:
                chance = table[f"chance_{name}_{rung}"].to_numpy()
                yield Key(row, f"skill_{name}", "ours", Over.ALL, rung, rule), skill(ratio, chance)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
