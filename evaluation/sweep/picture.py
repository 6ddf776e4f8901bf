"""The sweep as one SVG: Jaccard and validation loss by step, a line a rank, bands for how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from evaluation.report.plots import Drawn, Plot, Point, Series, draw
from evaluation.sweep.cells import Cell
from evaluation.sweep.pooling import Pooled

_WIDTH, _HEIGHT, _LEGEND, _GAP = 380.0, 250.0, 18.0, 16.0
_COLOURS = ("#1f5c8a", "#b3501e", "#17693a", "#6b4c9a", "#57606a")
_DASHES = ("none", "6 3", "2 3", "8 3 2 3", "1 2")
_TEXT = 'font-family="Helvetica, Arial, sans-serif" font-size="10" fill="#57606a"'


def picture(cells: Sequence[Cell], base: float | None, split: str) -> str:
    """Return the drawing; the same cells give the same text.

    Args:
        cells: by method, rank and step.
        base: Jaccard of the base alone, a dotted line; None: it has none.
        split: that Jaccard was measured on.
    """
    level = [] if base is None else [(base, "base")]
    panels = [
        _panel(cells, f"Jaccard, {split}", lambda cell: cell.scores["jaccard"], level),
        _panel(cells, "validation loss", lambda cell: cell.loss, []),
    ]
    names = list(dict.fromkeys(map(_line, cells)))
    width, height = _WIDTH * 2 + _GAP, _HEIGHT + _LEGEND * len(names) + 26
    shown = [f'<g transform="translate({i * (_WIDTH + _GAP)} 14)">{_svg(p)}</g>' for i, p in enumerate(panels) if p]
    legend = [_entry(name, look, _HEIGHT + 24 + _LEGEND * look) for look, name in enumerate(names)]
    note = "Bands: Jaccard, 95 % over patients and seeds; loss, one standard deviation over seeds."
    told = " ".join(panel.plot.desc for panel in panels if panel)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'width="{width:g}" height="{height:g}">',
            f"<title>Sweep by rank and step</title><desc>{escape(told)}</desc>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *shown,
            *legend,
            f'<text x="{width - 12:g}" y="{height - 8:g}" text-anchor="end" {_TEXT}>{note}</text>',
            "</svg>\n",
        )
    )


def _line(cell: Cell) -> str:
    return f"{cell.method}, rank {cell.rank}"


def _panel(
    cells: Sequence[Cell], title: str, of: Callable[[Cell], Pooled], levels: Sequence[tuple[float, str]]
) -> Drawn | None:
    """Return one half; None where no cell has a value."""
    lines: dict[str, list[Point]] = {}
    for cell in cells:
        lines.setdefault(_line(cell), [])
        found = of(cell)
        if found.value is not None:
            lo, hi = found.lo, found.hi
            if lo is None and found.sd is not None:
                lo, hi = found.value - found.sd, found.value + found.sd
            lines[_line(cell)].append(Point(cell.step, found.value, lo, hi))
    series = [Series(name, points, look) for look, (name, points) in enumerate(lines.items()) if points]
    if not series:
        return None
    told = "; ".join(f"{s.name}: " + ", ".join(f"{p.y:.4g} at step {p.x:g}" for p in s.points) for s in series)
    ticks = [(float(step), f"{step:,}") for step in sorted({cell.step for cell in cells})]
    return draw(Plot("sweep", title, f"{title}: {told}.", "step", title, series, levels, ticks), _WIDTH, _HEIGHT)


def _svg(it: Drawn) -> str:
    parts = [f'<text x="{it.left:g}" y="4" {_TEXT} font-weight="bold">{escape(it.plot.title)}</text>']
    for y, label in it.yticks:
        parts.append(f'<path d="M{it.left:g} {y:g}H{it.right:g}" stroke="#e9ecf0"/>')
        parts.append(f'<text x="{it.left - 5:g}" y="{y + 3.5:g}" text-anchor="end" {_TEXT}>{label}</text>')
    for x, label in it.xticks:
        parts.append(f'<text x="{x:g}" y="{it.bottom + 14:g}" text-anchor="middle" {_TEXT}>{label}</text>')
    parts.append(f'<text x="{it.right:g}" y="{it.bottom + 27:g}" text-anchor="end" {_TEXT}>{it.plot.x}</text>')
    for y, label in it.levels:
        parts.append(f'<path d="M{it.left:g} {y:g}H{it.right:g}" stroke="#57606a" stroke-dasharray="2 3"/>')
        parts.append(f'<text x="{it.left + 3:g}" y="{y - 4:g}" {_TEXT}>{label}</text>')
    for series, path, band, dots in it.lines:
        colour, dash = _look(series.look)
        if band:
            parts.append(f'<path d="{band}" fill="{colour}" opacity="0.16"/>')
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>')
        parts += [f'<circle cx="{x:g}" cy="{y:g}" r="3" fill="{colour}"/>' for x, y in dots]
    return "\n".join(parts)


def _entry(name: str, look: int, y: float) -> str:
    colour, dash = _look(look)
    return (
        f'<path d="M40 {y:g}h30" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>'
        f'<text x="78" y="{y + 3.5:g}" {_TEXT}>{escape(name)}</text>'
    )


def _look(look: int) -> tuple[str, str]:
    return _COLOURS[look % len(_COLOURS)], _DASHES[look // len(_COLOURS) % len(_DASHES)]
