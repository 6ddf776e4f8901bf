"""The sweep in words: a line a cell, a line a seed, the base, and what may be concluded."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from evaluation.figures import UNDEFINED, Figures, written
from evaluation.markdown import grid
from evaluation.metrics import BY_NAME, Unit
from evaluation.sweep.cells import Cell, Effect, Swept
from evaluation.sweep.pooling import Pooled

_SHOWN = ("f1", "accuracy", "output_rate", "drugs")


def text(swept: Swept) -> str:
    """Return the whole text: cells, effects, seeds."""
    return "\n".join((_cells(swept), "", *_notes(swept), "", "Every seed:", "", _seeds(swept))) + "\n"


def _cells(swept: Swept) -> str:
    header = ("method", "rank", "step", "s", "s²r", "seeds", "validation loss", "Jaccard", "sd", *map(_title, _SHOWN))
    best = swept.chosen
    rows = [_cell_line(cell, chosen=cell is best) for cell in swept.cells]
    return grid(header, [*rows, _base_line(swept)])


def _cell_line(cell: Cell, chosen: bool) -> tuple[str, ...]:
    jaccard = cell.scores["jaccard"]
    return (
        cell.method,
        str(cell.rank),
        f"{cell.step}{' *' * chosen}",
        f"{cell.scaling:.4g}",
        f"{cell.step_size:.4g}",
        str(len(cell.rows)),
        _loss(cell.loss),
        _with_interval(jaccard),
        _number(jaccard.sd, 4),
        *(written(cell.scores[name].value, BY_NAME[name].unit) for name in _SHOWN),
    )


def _base_line(swept: Swept) -> tuple[str, ...]:
    """Return the base's row; it has no seeds, so its interval is over patients."""
    figures, name = Figures(swept.found.results), swept.base_row
    line = figures.find(name, "jaccard")
    shown = _with_interval(Pooled(line["value"], line["lo"], line["hi"]))
    scores = (written(figures.find(name, metric)["value"], BY_NAME[metric].unit) for metric in _SHOWN)
    return ("base", *[""] * 6, shown, "", *scores)


def _seeds(swept: Swept) -> str:
    figures = Figures(swept.found.results)
    rows = []
    for cell in swept.cells:
        for seed, row in cell.rows.items():
            line = figures.find(row, "jaccard")
            jaccard = _with_interval(Pooled(line["value"], line["lo"], line["hi"]))
            scores = (written(figures.find(row, metric)["value"], BY_NAME[metric].unit) for metric in _SHOWN)
            loss = _number(swept.losses[row], 4)
            rows.append((cell.method, str(cell.rank), str(cell.step), str(seed), loss, jaccard, *scores))
    return grid(("method", "rank", "step", "seed", "validation loss", "Jaccard", *map(_title, _SHOWN)), rows)


def _notes(swept: Swept) -> list[str]:
    about, best = swept.found.about, swept.chosen
    notes = [
        f"""
        {about["admissions"]} admissions of {about["patients"]} patients, split {about["split"]}. A seed is the order
        of the samples and the random A alike, the same for every rank. Validation loss: mean over seeds ± standard
        deviation. Jaccard: mean over seeds [95 % interval over patients and seeds; over patients alone with one seed];
        sd: over seeds. s: what B A is multiplied by; s²r: by which one SGD step moves the model.
        """,
        f"* {best.name}: the lowest mean validation loss, the cell to go on with." if best else "",
        confounded(swept.cells),
        *(f"Failed and left out: {name}: {why}" for name, why in swept.failed.items()),
    ]
    filled = [_filled(note) for note in notes if note]
    return [*filled, *map(_sentence, swept.effects)]


def confounded(cells: Sequence[Cell]) -> str:
    """Return a warning where ranks are compared by the size of their steps; else nothing."""
    if len({round(cell.step_size, 9) for cell in cells if cell.rank_sets_step}) < 2:
        return ""
    return "s²r differs between ranks: a difference between them may be one of step size; --set scaling=rslora ends it."


def _sentence(effect: Effect) -> str:
    found = effect.difference
    told = f"{effect.method}, rank {effect.rank} less rank {effect.lowest}: {_signed(found.value)} Jaccard"
    if found.lo is None or found.hi is None:
        return f"{told}; too few patients for an interval."
    verdict = "better" if found.lo > 0 else "worse" if found.hi < 0 else "not to be told apart"
    return f"{told} [{_signed(found.lo)}, {_signed(found.hi)}], seed by seed over all steps: {verdict}."


def _title(metric: str) -> str:
    return BY_NAME[metric].title


def _with_interval(found: Pooled) -> str:
    value = written(found.value, Unit.SCORE)
    if found.lo is None or found.hi is None:
        return value
    return f"{value} [{written(found.lo, Unit.SCORE)}, {written(found.hi, Unit.SCORE)}]"


def _loss(found: Pooled) -> str:
    return _number(found.value, 4) if found.sd is None else f"{_number(found.value, 4)} ± {_number(found.sd, 4)}"


def _number(value: float | None, digits: int) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:+.4f}"


def _filled(note: str) -> str:
    return fill(" ".join(note.split()), 118, break_long_words=False, break_on_hyphens=False)
