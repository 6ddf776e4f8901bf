"""Where the lines of a drawing run, in the units of its viewBox; how they look is the page's matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from training.drawing import round_numbers

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value at x, with its interval where it has one."""

    x: float
    y: float
    lo: float | None = None
    hi: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot. `look` is its place in the page's list of strokes; `dots` marks every point."""

    name: str
    points: Sequence[Point]
    look: int = 0
    dots: bool = True


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn.

    Attributes:
        id: of the drawing, for its title.
        title, desc: what it shows, and its numbers in words.
        x, y: names of the axes.
        series: the lines.
        levels: (value, name) of horizontal lines to compare with.
        ticks: (x, label); empty: round numbers.
        diagonal: from (0, 0) to (1, 1), both axes being shares.
    """

    id: str
    title: str
    desc: str
    x: str
    y: str
    series: Sequence[Series]
    levels: Sequence[tuple[float, str]] = ()
    ticks: Sequence[tuple[float, str]] = ()
    diagonal: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plot, placed.

    Attributes:
        plot: what it is of.
        width, height: of the viewBox; left, right, top, bottom: of the area within.
        xticks, yticks: (place, label).
        lines: (series, path, band, dots); a band is "" without intervals.
        levels: (place, label).
    """

    plot: Plot
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    lines: list[tuple[Series, str, str, list[tuple[float, float]]]]
    levels: list[tuple[float, str]] = field(default_factory=list)


def draw(plot: Plot, width: float = 340, height: float = 210) -> Drawn:
    """Place a plot; values outside of the axes cannot be, since the axes are made from them."""
    left, right, top, bottom = 40.0, width - 12.0, 12.0, height - 34.0
    points = [point for series in plot.series for point in series.points]
    xs = [point.x for point in points] + [x for x, _ in plot.ticks]
    ys = [y for p in points for y in (p.y, p.lo, p.hi) if y is not None] + [value for value, _ in plot.levels]
    if plot.diagonal:
        xs, ys = [0.0, 1.0], [0.0, 1.0]
    yticks = round_numbers(min(ys), max(ys))
    xticks = list(plot.ticks) or [(x, _label(x)) for x in round_numbers(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    margin = 0 if plot.diagonal else 10
    across = scale((min(xs), max(xs)), (left + margin, right - margin))
    up = scale((yticks[0], yticks[-1]), (bottom, top))
    return Drawn(
        plot=plot,
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        xticks=[(_round(across(x)), label) for x, label in xticks],
        yticks=[(_round(up(y)), _label(y)) for y in yticks],
        lines=[(one, _path(one, across, up), _band(one, across, up), _dots(one, across, up)) for one in plot.series],
        levels=[(_round(up(value)), name) for value, name in plot.levels],
    )


def scale(values: tuple[float, float], places: tuple[float, float]) -> Scale:
    """Return the straight map from values to places; a range without width lands in the middle."""
    (low, high), (start, end) = values, places
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def strip(point: float | None, lo: float | None, hi: float | None, across: Scale) -> dict[str, float] | None:
    """Return where a forest plot's mark and whisker stand; None without a point."""
    if point is None:
        return None
    ends = (point, point) if lo is None or hi is None else (lo, hi)
    return {"at": _round(across(point)), "from": _round(across(ends[0])), "to": _round(across(ends[1]))}


def _path(series: Series, across: Scale, up: Scale) -> str:
    return "M" + "L".join(f"{_round(across(p.x))} {_round(up(p.y))}" for p in series.points) if series.points else ""


def _band(series: Series, across: Scale, up: Scale) -> str:
    sure = [(p.x, p.lo, p.hi) for p in series.points if p.lo is not None and p.hi is not None]
    if len(sure) < 2:
        return ""
    above = [f"{_round(across(x))} {_round(up(hi))}" for x, _, hi in sure]
    below = [f"{_round(across(x))} {_round(up(lo))}" for x, lo, _ in reversed(sure)]
    return "M" + "L".join(above + below) + "Z"


def _dots(series: Series, across: Scale, up: Scale) -> list[tuple[float, float]]:
    return [(_round(across(p.x)), _round(up(p.y))) for p in series.points] if series.dots else []


def _label(value: float) -> str:
    return f"{value:,g}".replace("-", "−")


def _round(place: float) -> float:
    return round(place, 1)
