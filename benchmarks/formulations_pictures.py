"""The pictures of docs/formulations.md as SVG: rows beside each other, and scores over the number of admissions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from training.drawing import round_numbers

Json = dict[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")
"""Told apart by the colour-blind too. Source: Okabe and Ito, Color universal design, 2008."""
_DASHES = ("", "8 4", "2 3", "10 3 2 3", "1 0")

_LEFT, _WIDTH, _ROW, _TOP = 210, 460, 22, 34


def draw_rows(rows: Sequence[Json], score: str, title: str) -> str:
    """Draw a mark with its interval for every row; the last row's value, the best that can be, as a line."""
    low = min(row[score]["lo"] for row in rows)
    high = max(row[score]["hi"] for row in rows)
    ticks = round_numbers(low, high, wanted=6)
    bottom = _TOP + _ROW * len(rows)

    def at(x: float) -> float:
        return _LEFT + _WIDTH * (x - ticks[0]) / (ticks[-1] - ticks[0])

    best = at(rows[-1][score]["value"])
    lines = [f'<path d="M{best:.1f} {_TOP}V{bottom}" stroke="#999" stroke-dasharray="3 3"/>']
    for place, row in enumerate(rows):
        lines += _mark(row, score, _TOP + _ROW * (place + 0.5), at)
    lines += (f'<text x="{at(x):.1f}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>' for x in ticks)
    return _paper(_LEFT + _WIDTH + 30, bottom + 30, title, [_words(20, 18, title), *lines])


def draw_curve(points: Sequence[Json], names: Sequence[tuple[str, str]], score: str, title: str) -> str:
    """Draw a line for each row over the number of training admissions, on a logarithmic scale.

    Args:
        points: by rising `admissions`; `rows` has the scores of each row by name.
        names: of the rows in files and in print; the last one is drawn thin and dashed.
        score: which one.
        title: over the picture.
    """
    values = [point["rows"][name][score]["value"] for point in points for name, _ in names]
    levels = round_numbers(min(values), max(values), wanted=6)
    left, right, top, bottom = 60, 480, _TOP, _TOP + 260
    first, last = (math.log(points[end]["admissions"]) for end in (0, -1))

    def place(admissions: int, value: float) -> str:
        x = left + (right - left) * (math.log(admissions) - first) / (last - first)
        return f"{x:.1f} {bottom - (bottom - top) * (value - levels[0]) / (levels[-1] - levels[0]):.1f}"

    lines = [_words(20, 18, title)]
    for level in levels:
        y = place(points[0]["admissions"], level).split()[1]
        lines.append(f'<path d="M{left} {y}H{right}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{level:g}</text>')
    for point in points:
        x = place(point["admissions"], levels[0]).split()[0]
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{point["admissions"]:,}</text>')
    lines.append(f'<text x="{right}" y="{bottom + 36}" text-anchor="end">training admissions</text>')
    for look, (name, words) in enumerate(names):
        found = [(point["admissions"], point["rows"][name][score]["value"]) for point in points]
        lines += _curve([place(*each) for each in found], words, look, right + 16, top + 20 + 24 * look)
    return _paper(right + 250, bottom + 46, title, lines)


def _mark(row: Json, score: str, y: float, at: Callable[[float], float]) -> Iterator[str]:
    found = row[score]
    colour = COLOURS[0] if row["run"] else COLOURS[4]
    yield f'<text x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{row["title"]}</text>'
    yield f'<path d="M{at(found["lo"]):.1f} {y:.1f}H{at(found["hi"]):.1f}" stroke="{colour}" stroke-width="2"/>'
    yield f'<circle cx="{at(found["value"]):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _curve(points: Sequence[str], words: str, look: int, x: float, y: float) -> Iterator[str]:
    colour, dashes = COLOURS[look % len(COLOURS)], _DASHES[look % len(_DASHES)]
    stroke = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}" fill="none"'
    yield f'<path d="M{"L".join(points)}" {stroke}/>'
    yield f'<path d="M{x} {y}h34" {stroke}/>'
    yield _words(x + 42, y + 4, words)


def _words(x: float, y: float, words: str) -> str:
    return f'<text x="{x}" y="{y}">{words}</text>'


def _paper(width: int, height: int, title: str, lines: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
            ' font-family="sans-serif" font-size="12" fill="#222">',
            f"<title>{title}</title>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *lines,
            "</svg>\n",
        ]
    )
