"""Tables in Markdown whose columns also line up on a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, without a last newline.

    >>> print(grid(["row", "F1"], [["popularity", "0.47"]]))
    | row        | F1   |
    |------------|------|
    | popularity | 0.47 |
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(columns), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
