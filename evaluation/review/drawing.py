"""Which items a review has: drafted drugs drawn at random, and drugs of known answer that check the raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ConfigError
from evaluation.judge.decoys import Decoys, Kind
from evaluation.judge.items import Charts, Unit
from evaluation.review import sampling

DRAFTED = "drafted"
KEY_COLUMNS = (
    "item_id", "kind", "subject_id", "hadm_id", "drug", "rows", "judged", "stratum", "inclusion_probability",
)  # fmt: skip

_DECOYS = {Kind.SEX: 0.15, Kind.FICTITIOUS: 0.25, Kind.CHART_SWAP: 1.0}
"""Shares of the decoys, the scarce kinds first; what they lack, chart swaps give."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a review is drawn.

    Attributes:
        raters: people who see every item.
        n: items in all, decoys and true drugs among them.
        decoys, true_drugs: shares of n that check the raters.
        negatives: share of the drafted items that the judge did not approve, where one was asked.
        rows: of the table to draw from; () for all that were drafted.
        seed: of every draw.
    """

    raters: int = 2
    n: int = 200
    decoys: float = 0.15
    true_drugs: float = 0.10
    negatives: float = 0.25
    rows: tuple[str, ...] = ()
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """What the raters are called: nobody's name."""
        return [f"rater-{number}" for number in range(1, self.raters + 1)]


def draw_items(charts: Charts, drafts: pl.DataFrame, verdicts: pl.DataFrame | None, settings: Settings) -> pl.DataFrame:
    """Return the key: every item with what it is; drafted ones with their chance of being drawn.

    Raises:
        ConfigError: nothing was drafted.
    """
    rng = np.random.default_rng(settings.seed)
    units = sampling.pool(drafts, verdicts, rng)
    if units.is_empty():
        raise ConfigError("the rows to draw from drafted no drug; choose others with --row")
    decoys, true_drugs = round(settings.n * settings.decoys), round(settings.n * settings.true_drugs)
    drawn = sampling.draw(units, settings.n - decoys - true_drugs, settings.negatives, rng)
    taken = {Unit(*pair) for pair in units.select("hadm_id", "label").iter_rows()}
    wrong = _decoys(Decoys(charts, settings.seed), decoys, taken)
    # A true drug that was drafted too may be one, unless it stands on the sheet already.
    taken = {Unit(*pair) for pair in drawn.select("hadm_id", "label").iter_rows()} | set(wrong)
    right = _scattered(Decoys(charts, settings.seed).draw(Kind.POSITIVE, 4 * true_drugs + 100), true_drugs, taken)
    items = [
        {
            "kind": DRAFTED,
            "unit": Unit(row["hadm_id"], row["label"]),
            "rows": "; ".join(row["rows"]),
            **{name: row[name] for name in ("judged", "stratum", "inclusion_probability")},
        }
        for row in drawn.iter_rows(named=True)
    ]
    items += [{"kind": kind, "unit": unit} for unit, kind in wrong.items()]
    items += [{"kind": str(Kind.POSITIVE), "unit": unit} for unit in right]
    return _key(items, charts)


def _key(items: Iterable[dict[str, Any]], charts: Charts) -> pl.DataFrame:
    numbers = {"subject_id": pl.Int64, "hadm_id": pl.Int64, "inclusion_probability": pl.Float64}
    schema: dict[str, Any] = dict.fromkeys(KEY_COLUMNS, pl.String) | numbers
    rows = [
        {
            **item,
            "item_id": item["unit"].item_id,
            "subject_id": charts.subject(item["unit"].hadm_id),
            "hadm_id": item["unit"].hadm_id,
            "drug": item["unit"].drug,
        }
        for item in items
    ]
    return pl.DataFrame([{name: row.get(name) for name in KEY_COLUMNS} for row in rows], schema=schema).sort("item_id")


def _decoys(decoys: Decoys, count: int, taken: set[Unit]) -> dict[Unit, str]:
    """Return drugs that no drafted list held for that stay, with the kind of their being wrong."""
    found: dict[Unit, str] = {}
    for kind, share in _DECOYS.items():
        wanted = min(round(count * share), count - len(found))
        candidates = decoys.draw(kind, 4 * wanted + 100 if wanted else 0)
        found |= dict.fromkeys(_scattered(candidates, wanted, taken | set(found)), str(kind))
    return found


def _scattered(candidates: Iterable[Unit], count: int, taken: set[Unit]) -> list[Unit]:
    """Return `count` candidates in their order, no stay twice before every stay was there once."""
    times: Counter[int] = Counter()
    ranked = []
    for place, unit in enumerate(candidate for candidate in candidates if candidate not in taken):
        ranked.append((times[unit.hadm_id], place, unit))
        times[unit.hadm_id] += 1
    return [unit for _, _, unit in sorted(ranked)[:count]]
