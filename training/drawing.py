"""Lines on paper: panels of curves as a PNG, told apart by dashes before colours. Knows no run and no model.

Drawn at twice its size and halved, since Pillow's lines have jagged edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

Points = Sequence[tuple[float, float]]

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Told apart by the colour-blind too. Source: Okabe and Ito, Color universal design, 2008."""
DASHES = ((), (14, 8), (3, 6), (20, 6, 3, 6), (30, 12), (8, 4, 3, 4, 3, 4))
"""On and off, in pixels; as many as do not divide by the colours, so that thirty lines differ."""

_SIZE, _LARGER = 2, 15
_PANEL = (600, 360)
_MARGIN = (72, 40, 20, 44)  # left, top, right, bottom of a panel
_ROW = 26
_GRID, _INK = "#d8d8d8", "#202020"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; `look` chooses dashes and colour."""

    name: str
    points: Points
    look: int


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the same axes, of which the one across counts steps from 0."""

    title: str
    lines: Sequence[Line]


def draw_panels(panels: Sequence[Panel], path: Path, origin: Mapping[str, str]) -> None:
    """Draw panels two by two under one legend.

    Args:
        panels: each with a line, each line with a point; steps are above 0, values finite.
        path: the PNG.
        origin: kept in the file's text, by keyword.
    """
    legend = {line.name: line for panel in panels for line in panel.lines}
    across = min(2, len(panels))
    columns = max(1, (across * _PANEL[0] - _MARGIN[0]) // (70 + max(map(_width, legend))))
    top = 14 + _ROW * -(-len(legend) // columns)
    paper = _Paper(across * _PANEL[0], top + _PANEL[1] * -(-len(panels) // across))
    column = (across * _PANEL[0] - _MARGIN[0]) / columns
    for place, line in enumerate(legend.values()):
        x, y = _MARGIN[0] + place % columns * column, 20 + place // columns * _ROW
        paper.line([(x, y), (x + 50, y)], line.look)
        paper.text((x + 58, y), line.name, "lm")
    for place, panel in enumerate(panels):
        _draw_panel(paper, panel, place % across * _PANEL[0], top + place // across * _PANEL[1])
    paper.save(path, origin)


def _draw_panel(paper: _Paper, panel: Panel, x: float, y: float) -> None:
    left, right = x + _MARGIN[0], x + _PANEL[0] - _MARGIN[2]
    top, bottom = y + _MARGIN[1], y + _PANEL[1] - _MARGIN[3]
    points = [point for line in panel.lines for point in line.points]
    last = max(step for step, _ in points)
    steps = [step for step in round_numbers(0, last) if step <= last]
    levels = round_numbers(*_range(value for _, value in points))

    def place(step: float, value: float) -> tuple[float, float]:
        return (
            left + step / last * (right - left),
            bottom - (value - levels[0]) / (levels[-1] - levels[0]) * (bottom - top),
        )

    for value in levels:
        height = place(0, value)[1]
        paper.rule((left, height), (right, height))
        paper.text((left - 8, height), f"{value:,g}", "rm")
    for step in steps:
        paper.text((place(step, levels[0])[0], bottom + 8), f"{step:,g}", "ma")
    paper.text((left, top - 12), panel.title, "ls")
    paper.text((right, bottom + 26), "step", "ra")
    for line in panel.lines:
        paper.line([place(*point) for point in line.points], line.look)


def round_numbers(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return steps of 1, 2 or 5 times a power of ten that enclose the values; two numbers at least.

    >>> round_numbers(0.41, 0.453)
    [0.4, 0.42, 0.44, 0.46]
    """
    widest = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * widest else widest or 1.0  # a range without width gets one
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * wanted >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def _range(values: Iterator[float]) -> tuple[float, float]:
    known = list(values)
    return min(known), max(known)


class _Paper:
    """A white sheet, in pixels as they will be seen."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _SIZE, height * _SIZE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def text(self, at: tuple[float, float], words: str, anchor: str) -> None:
        """Write at a point; the anchor is Pillow's, such as lm for left and middle."""
        self._draw.text(_scaled(at), words, font=_font(), fill=_INK, anchor=anchor)

    def rule(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a thin grey line."""
        self._draw.line([_scaled(start), _scaled(end)], fill=_GRID, width=_SIZE)

    def line(self, points: Points, look: int) -> None:
        """Draw a curve; a single point becomes a dot."""
        colour, dashes = COLOURS[look % len(COLOURS)], DASHES[look % len(DASHES)]
        if len(points) == 1:
            self._draw.circle(_scaled(points[0]), 4 * _SIZE, fill=colour)
        for part in _dashed(points, dashes) if dashes else [points]:
            self._draw.line([_scaled(point) for point in part], fill=colour, width=2 * _SIZE, joint="curve")

    def save(self, path: Path, origin: Mapping[str, str]) -> None:
        """Write the PNG."""
        about = PngImagePlugin.PngInfo()
        for keyword, words in origin.items():
            about.add_text(keyword, words)
        self._image.reduce(_SIZE).save(path, "PNG", pnginfo=about)


def _dashed(points: Points, dashes: Sequence[int]) -> Iterator[Points]:
    """Yield the parts of a curve that are drawn; dashes go on around its corners."""
    turn, left = 0, float(dashes[0])
    part = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if turn % 2 == 0:
                yield [*part, at]
            turn += 1
            part, left = [at], float(dashes[turn % len(dashes)])
        left -= length - done
        part.append((x1, y1))
    if turn % 2 == 0:
        yield part


def _scaled(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * _SIZE, point[1] * _SIZE


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_LARGER * _SIZE)


def _width(words: str) -> int:
    return math.ceil(_font().getbbox(words)[2] / _SIZE)
