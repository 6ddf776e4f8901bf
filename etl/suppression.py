"""Hide small cells where the source is not open data: what tells of a few patients is None, shown as hidden.

Tables of patients hide every cell made of fewer than `MINIMUM` patients. Counts of rows, whose patients are not
counted, hide what is fewer than `MINIMUM` rows. Nothing hidden can be had back from what sums to a total.
"""

from __future__ import annotations

from typing import Any

from etl.statistics import TOTAL, Cell, Table

MINIMUM = 11
"""Patients, or rows, behind a number that is shown."""


def suppress_counts(counts: dict[str, Any], minimum: int = MINIMUM) -> dict[str, Any]:
    """Return the account of `etl.account` with small counts hidden.

    Parts that sum to what was read lose their next smallest as well.
    """
    measured = counts["measurements"]
    return {
        **counts,
        "flow": suppress_flow(counts["flow"], minimum),
        "splits": _suppress_splits(counts["splits"], minimum),
        "orders": _suppress_parts(counts["orders"], minimum),
        "diagnoses": _suppress_parts(counts["diagnoses"], minimum),
        "measurements": {
            name: {part: _shown(count, minimum) for part, count in value.items()}
            if isinstance(value, dict)
            else _shown(value, minimum)
            for name, value in measured.items()
        },
        "drugs": {
            **counts["drugs"],
            "dropped": {name: _shown(count, minimum) for name, count in counts["drugs"]["dropped"].items()},
            "unmapped": [row for row in counts["drugs"]["unmapped"] if row["orders"] >= minimum],
        },
        "rules": [{**rule, "touched": _shown(rule["touched"], minimum)} for rule in counts["rules"]],
    }


def suppress_flow(flow: list[dict[str, Any]], minimum: int = MINIMUM) -> list[dict[str, Any]]:
    """Return the flow with exclusions of few patients as None, and the admissions that they are the difference of.

    The count after a hidden exclusion stands; those before it go, up to the last one that no difference betrays.
    """
    small = [0 < step["excluded_patients"] < minimum for step in flow]
    return [
        {
            **step,
            **({"excluded": None, "excluded_patients": None} if small[i] else {}),
            **({"admissions": None} if any(small[i + 1 :]) else {}),
        }
        for i, step in enumerate(flow)
    ]


def _suppress_splits(splits: dict[str, dict[str, int]], minimum: int) -> dict[str, dict[str, int] | None]:
    cells = _without_small(list(splits.values()), True, minimum)
    return dict(zip(splits, cells, strict=True))


def _suppress_parts(parts: dict[str, int], minimum: int) -> dict[str, int | None]:
    """Hide small parts of a sum, and the smallest other one; what was read is the sum."""
    small = [name for name, count in parts.items() if name != "read" and 0 < count < minimum]
    large = sorted((count, name) for name, count in parts.items() if name not in (*small, "read", "kept") and count)
    hidden = {*small, *(name for _, name in large[:1])} if small else set()
    return {name: None if name in hidden else count for name, count in parts.items()}


def _shown(count: int, minimum: int) -> int | None:
    return None if 0 < count < minimum else count


def suppress_statistics(sections: dict[str, list[Table]], minimum: int = MINIMUM) -> dict[str, list[Table]]:
    """Return the tables of `etl.statistics` with every cell of few patients as None, and none that gives it away.

    A column that sums to a total loses its smallest other cell as well, so that what the total tells is about
    `minimum` patients or more. The splits sum to the cohort, so one that is too small goes with the next. A
    difference goes with either of its columns. The patients behind a mean go, as with the split's total they
    would tell of how few a value is unknown. 0 stays 0.
    """
    totals = next(table["columns"] for table in sections["table_one"] if table["fact"] == TOTAL.name)
    shown = _without_small([cell for (cell,) in totals.values()], True, minimum)
    gone = {split for split, cell in zip(totals, shown, strict=True) if cell is None}
    return {name: [_suppress(table, minimum, gone) for table in tables] for name, tables in sections.items()}


def _suppress(table: Table, minimum: int, gone: set[str]) -> Table:
    columns = {
        split: [None if cell["patients"] else cell for cell in cells]
        if split in gone
        else _without_small(cells, table["sums"], minimum)
        for split, cells in table["columns"].items()
    }
    hidden = {split for split, cells in columns.items() if None in cells}
    smd = {split: None if hidden & {split, "train"} else value for split, value in table["smd"].items()}
    return {**table, "columns": columns, "smd": smd}


def _without_small(cells: list[Cell], sums: bool, minimum: int) -> list[Cell | None]:
    small = [cell for cell in cells if 0 < cell["patients"] < minimum]
    if small and sums:
        large = [cell for cell in cells if cell["patients"] >= minimum]
        small += sorted(large, key=lambda cell: cell["patients"])[:1]
    return [None if any(cell is s for s in small) else _without_patients(cell) for cell in cells]


def _without_patients(cell: Cell) -> Cell:
    return {name: value for name, value in cell.items() if name != "patients" or "mean" not in cell}
