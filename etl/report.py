"""Write what cohort.json says as one HTML page that needs no network, no script and no colour to be read.

The module decides how things look and counts nothing. A section that cohort.json does not have is left out; what is
None there was hidden as too few patients. The same content gives the same bytes, whatever the order of its keys.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from etl.domain import Split

Table = dict[str, Any]

HIDDEN = Markup('<span class="hidden" title="too few patients, or would give such a cell away">hidden</span>')
NOTABLE = 0.1
"""A standardised difference above it is commonly called an imbalance (Austin, Stat Med 2009;28:3083-3107)."""
MINIMUM = 11
"""Orders of an unmapped name that is shown where the source is not open data: a rare one may be free text."""

_DIGEST = 12
_UNMAPPED = 60


def render_report(cohort: dict[str, Any]) -> str:
    """Render cohort.json's content, of which every section is optional, as one self-contained HTML page."""
    statistics = cohort.get("statistics", {})
    table_one = [*statistics.get("table_one", [])]
    total = next((table for table in table_one if table["fact"] == "Admissions"), None)
    return _template().render(
        cohort=cohort,
        totals=_totals(total, cohort.get("splits", {})),
        table_one=[_by_split(table) for table in table_one if table is not total],
        missing=[_by_split(table) for table in statistics.get("missing", [])],
        ages=[_by_split(table) for table in statistics.get("measurement_ages", [])],
        histograms=[_histogram(table) for table in statistics.get("histograms", [])],
        top=statistics.get("top", []),
        flow=_flow(cohort.get("flow", [])),
        unmapped=_unmapped(cohort),
        tables=_tables(cohort),
        open_data=_open_data(cohort),
        NOTABLE=NOTABLE,
        HIDDEN=HIDDEN,
    )


@cache
def _template() -> jinja2.Template:
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    filters = (_count, _percent, _number, _quartile, plain, _bounds, _digest)
    page.filters |= {function.__name__.lstrip("_"): function for function in filters}
    return page.from_string((files("etl") / "report.html.jinja").read_text("utf-8"))


# --- words and numbers ---------------------------------------------------------------------------------


def _shown(value: Any) -> Any:
    return HIDDEN if value is None else value


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str | None:
    """Return three digits or so: 63.8 years, 1.04 mg/dL."""
    return None if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _quartile(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def plain(value: Any) -> str:
    """Return a setting as a reader would say it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)


def _bounds(rule: dict[str, Any]) -> str:
    """Return what a rule lets pass, as an interval with its unit."""
    low, high, unit = (rule.get(name) for name in ("low", "high", "unit"))
    if low is None and high is None:
        return "–"
    interval = f"≤ {high:g}" if low is None else f"≥ {low:g}" if high is None else f"{low:g} to {high:g}"
    return f"{interval} {unit}" if unit else interval


def _digest(value: str) -> str:
    return value[:_DIGEST]


# --- sections ------------------------------------------------------------------------------------------


def _open_data(cohort: dict[str, Any]) -> bool:
    return bool(cohort.get("settings", {}).get("open_data"))


def _order(split: str) -> tuple[int, str]:
    known = [known.value for known in Split]
    return (known.index(split) if split in known else len(known), split)


def _totals(total: Table | None, splits: dict[str, Any]) -> list[dict[str, Any]]:
    """Return admissions and patients of each split, from the statistics, else from the account."""
    cells = {split: cell for split, (cell,) in total["columns"].items()} if total else splits
    return [{"split": split, "cell": cells[split]} for split in sorted(cells, key=_order)]


def _by_split(table: Table) -> Table:
    """Return a table with its columns in the order of the splits, and its rows as lines of cells."""
    splits = sorted(table["columns"], key=_order)
    rows = zip(table["levels"], *(table["columns"][split] for split in splits), strict=True)
    lines = [{"level": level, "cells": cells} for level, *cells in rows]
    return {
        "fact": table["fact"],
        "counted": table["sums"],
        "splits": splits,
        "lines": lines,
        "compared": [split for split in splits if split in table["smd"]],
        "smd": [table["smd"][split] for split in splits if split in table["smd"]],
        "lacking": any(not cell or cell["admissions"] for cell in lines[-1]["cells"]) if table["sums"] else False,
    }


def _unmapped(cohort: dict[str, Any]) -> dict[str, Any]:
    """Return the names without an ingredient, most ordered first, and how many are not shown."""
    names = cohort.get("drugs", {}).get("unmapped", [])
    minimum = 0 if _open_data(cohort) else MINIMUM
    frequent = sorted((n for n in names if n["orders"] >= minimum), key=lambda n: (-n["orders"], n["name"]))[:_UNMAPPED]
    return {"names": frequent, "more": len(names) - len(frequent)}


def _tables(cohort: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows read and digest of each source table; either may be unknown."""
    rows, digests = cohort.get("rows_read", {}), cohort.get("inputs") or {}
    return [
        {"name": name, "rows": rows.get(name), "digest": digests.get(name)} for name in sorted(rows.keys() | digests)
    ]


# --- drawings ------------------------------------------------------------------------------------------

_STEP, _GAP = 44, 34  # height of a box of the flow diagram, and the space below it


def _flow(flow: list[dict[str, Any]]) -> dict[str, Any]:
    """Place the steps one below the other, each exclusion between the two that it separates."""
    pitch = _STEP + _GAP
    steps = [{**step, "y": i * pitch, "excluded_y": i * pitch - pitch // 2} for i, step in enumerate(flow)]
    return {"steps": steps, "height": len(flow) * pitch, "box": _STEP}


_LEFT, _WIDTH, _TOP, _HEIGHT = 30, 206, 8, 84  # plot area of a histogram, in the units of its viewBox


def _histogram(table: Table) -> dict[str, Any]:
    """Place the bars of each split on one scale; a hidden bin is a mark on the base line, no bar."""
    shares = [cell["share"] for cells in table["columns"].values() for cell in cells if cell]
    top = max(1, math.ceil(10 * max(shares, default=0))) / 10
    bins = table["levels"]
    width = _WIDTH / len(bins)
    panels = [
        {
            "split": split,
            "bars": [_bar(i, width, level, cell, top) for i, (level, cell) in enumerate(zip(bins, cells, strict=True))],
        }
        for split, cells in sorted(table["columns"].items(), key=lambda item: _order(item[0]))
    ]
    every = -(-len(bins) // 6)
    ticks = [{"x": _LEFT + (i + 0.5) * width, "label": bins[i].split("–")[0]} for i in range(0, len(bins), every)]
    grid = [{"y": round(_TOP + _HEIGHT * (1 - part), 2), "label": f"{100 * top * part:.3g} %"} for part in (0.5, 1)]
    hides = any(bar["cell"] is None for panel in panels for bar in panel["bars"])
    return {
        "fact": table["fact"],
        "panels": panels,
        "ticks": ticks,
        "grid": grid,
        "hides": hides,
        "rows": _by_split(table),
    }


def _bar(i: int, width: float, level: str, cell: dict[str, Any] | None, top: float) -> dict[str, Any]:
    height = _HEIGHT * cell["share"] / top if cell else 0
    return {
        "x": _LEFT + i * width + 0.5,
        "y": _TOP + _HEIGHT - height,
        "width": width - 1,
        "height": height,
        "level": level,
        "cell": cell,
    }
