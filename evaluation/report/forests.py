"""Forest plots: the selected checkpoint against every other row, and by group of patients, each on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.findings import PRIMARY
from evaluation.metrics import BY_NAME, Unit
from evaluation.report.cells import SUPPRESSED, Book, Cell, number
from evaluation.report.plots import Scale, scale, strip
from training.drawing import round_numbers

STRIP = 240.0
"""Width of a forest plot's drawn column."""


_HIDDEN = "each of fewer than 20 patients, or would give such a group away"
_STRATA = {
    "sex": "Sex",
    "age_band": "Age",
    "race": "Race",
    "admission_type": "Admission type",
    "icd_chapter": "ICD chapter of the first diagnosis",
    "drugs_quartile": "Quartile of drugs ordered",
    "history": "Earlier stay known",
}
_GROUPS = {"True": "yes", "False": "no", "None": "unknown"}
_CHAPTERS = {
    "I": "infections",
    "II": "neoplasms",
    "III": "blood, immunity",
    "IV": "endocrine, nutrition, metabolism",
    "V": "mental and behavioural",
    "VI": "nervous system",
    "VII": "eye",
    "VIII": "ear",
    "IX": "circulation",
    "X": "respiration",
    "XI": "digestion",
    "XII": "skin",
    "XIII": "muscles, bones",
    "XIV": "urinary and genital",
    "XV": "pregnancy, childbirth",
    "XVI": "perinatal",
    "XVII": "congenital",
    "XVIII": "symptoms, findings",
    "XIX": "injury, poisoning",
    "XX": "external causes",
    "XXI": "factors, contacts",
}
"""ICD-10's chapters in a word or two."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One row of a forest plot; without a cell it is the heading of those below."""

    title: str
    cell: Cell | None = None
    place: dict[str, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest plot: figures with their intervals on one scale.

    Attributes:
        ticks: (place, label) on the scale.
        line: place of the value to compare with; None outside of the scale.
        notes: head of the last column; "" without one.
    """

    caption: str
    head: str
    ticks: list[tuple[float, str]]
    line: float | None
    rows: list[Branch] = field(default_factory=list)
    notes: str = ""
    first: str = "row"


def comparisons(book: Book) -> list[Forest]:
    """Return the selected checkpoint less every other row, with simultaneous intervals, by metric."""
    return [_compared(book, metric) for metric in PRIMARY]


def _compared(book: Book, metric: str) -> Forest:
    found = book.about["comparisons"][metric]
    families = {
        "other checkpoints": [_turned(line) for line in found["checkpoints_less_selected"]],
        "what they face": found["selected_less_others"],
    }
    ends = [line[end] for lines in families.values() for line in lines for end in ("lo", "hi", "point")]
    across, ticks = _scale([end for end in ends if end is not None], 0.0)
    rows = []
    for title, lines in families.items():
        rows += [Branch(title)] if lines else []
        for line in lines:
            cell = book.finding(f"comparisons/{metric}/{line['row']}", line["point"], line["lo"], line["hi"])
            p = "" if line["holm"] is None else f"{line['holm']:.3f}"
            rows.append(Branch(book.titles[line["row"]], cell, strip(line["point"], line["lo"], line["hi"], across), p))
    title, selected = BY_NAME[metric].title, book.titles[book.about["selected"]]
    what = title[0].upper() + title[1:]
    caption = f"{what}: {selected}, chosen on validation, less each other row. Right of the line it is better."
    return Forest(caption, "difference, 95 % simultaneous", ticks, across(0.0), rows, "Holm’s p")


def _turned(line: dict[str, Any]) -> dict[str, Any]:
    """Return the difference the other way round."""
    point, lo, hi = (None if line[name] is None else -line[name] for name in ("point", "hi", "lo"))
    return {**line, "point": point, "lo": lo, "hi": hi}


def _scale(values: Sequence[float], *more: float) -> tuple[Scale, list[tuple[float, str]]]:
    all_values = [*values, *more] or [0.0, 1.0]
    marks = round_numbers(min(all_values), max(all_values), 4)
    across = scale((marks[0], marks[-1]), (8.0, STRIP - 8.0))
    return across, [(round(across(mark), 1), f"{mark:g}".replace("-", "−")) for mark in marks]


def subgroups(book: Book, metric: str = "jaccard") -> Forest:
    """Return the selected checkpoint's score by group; small groups are suppressed."""
    found = book.about["subgroups"][metric]
    shown = [group for groups in found.values() for group in groups if group["estimate"] is not None]
    overall = book.value(book.about["selected"], metric)["value"]
    ends = [group[end] for group in shown for end in ("estimate", "lo", "hi") if group[end] is not None]
    across, ticks = _scale(ends, *([overall] if overall is not None else []))
    rows = []
    for stratum, groups in found.items():
        rows.append(Branch(_STRATA.get(stratum, stratum)))
        ordered = _in_order(stratum, groups)
        rows += [_group(book, metric, stratum, group, across) for group in ordered if not group["hidden"]]
        if hidden := [_name(stratum, group["group"]) for group in ordered if group["hidden"]]:
            rows.append(Branch("; ".join(hidden), Cell(SUPPRESSED, about=_HIDDEN)))
    title = BY_NAME[metric].title
    caption = (
        f"{title} of {book.titles[book.about['selected']]} by group; the line is all visits. Groups of under 20 "
        f"patients, and what would give them away, are suppressed ({SUPPRESSED})."
    )
    line = across(overall) if overall is not None else None
    return Forest(caption, f"{title}, 95 %", ticks, line, rows, "patients; gap to the rest", "group")


def _in_order(stratum: str, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return groups that have an order in it, the others as they come: the largest first, the hidden last."""
    if stratum not in ("age_band", "drugs_quartile"):
        return groups
    return sorted(groups, key=lambda group: (not group["group"].startswith("under"), group["group"]))


def _group(book: Book, metric: str, stratum: str, group: dict[str, Any], across: Scale) -> Branch:
    path = f"subgroups/{metric}/{stratum}/{group['group']}"
    cell = book.finding(path, group["estimate"], group["lo"], group["hi"])
    gap = "" if group["gap"] is None else f"; {'+' if group['gap'] > 0 else ''}{number(group['gap'], Unit.SCORE)}"
    note = f"{group['patients']:,}{gap}" + (" lowest" if group["worst"] else "")
    place = strip(group["estimate"], group["lo"], group["hi"], across)
    return Branch(_name(stratum, group["group"]), cell, place, note)


def _name(stratum: str, group: str) -> str:
    """Return a group's name as a reader would say it."""
    if stratum == "icd_chapter" and group in _CHAPTERS:
        return f"{group} {_CHAPTERS[group]}"
    return _GROUPS.get(group, group)
