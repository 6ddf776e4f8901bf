"""The tables below the main table, as the page writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl.prompts import Outcome
from evaluation.conventions import CONVENTIONS
from evaluation.drafts import Kind
from evaluation.findings import PRIMARY
from evaluation.interactions import interaction_scores, rates_by_severity
from evaluation.ladder import RUNGS, Rule
from evaluation.ladder import coverage as mapped
from evaluation.metrics import BY_NAME, RARITIES, Unit
from evaluation.predict import LABELS
from evaluation.report.cells import Book, Cell, head, number
from evaluation.report.pictures import loss_text
from evaluation.results import LITERATURE_RUNG
from evaluation.statistics.bootstrap import draw
from evaluation.statistics.comparisons import combine

_CHANGES = ("continued", "started", "stopped", "recall_never", *(f"recall_fifth_{i}" for i in range(1, RARITIES)))
_LISTS = ("length_bias", "length_error", "repeats", "unknown", "off_formulary", "same_class", "exact")
_SIDES = (("p", "drafted"), ("t", "ordered"))
_COMPARED = ("precision", "recall", "f1", "jaccard", "prauc", "ddi_rate", "drugs")
_LOSS_PER = {
    frozenset([False]): "response token",
    frozenset([True]): "drug of the formulary",
    frozenset([False, True]): "response token, or per drug of the formulary under objective labels",
}
"""What a loss is a mean over, by whether checkpoints learned labels."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of cells: each row a title and its cells; `selected` names the rows to point at."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    first: str = "row"
    selected: str = ""


def failures(book: Book) -> Table | None:
    """Return what every answer was, by row that a model wrote; nothing that no answer was."""
    visits = book.sources.evaluation.visits
    counts = {(row, outcome): n for row, outcome, n in visits.group_by("row", "outcome").len().iter_rows()}
    asked = [row["name"] for row in book.about["rows"] if row["kind"] not in (Kind.BASELINE, Kind.ORACLE)]
    used = [o for o in Outcome if any(counts.get((name, o.value)) for name in asked)]
    bounds = {found["row"]: found for found in book.about["failure_bounds"]}
    rows = []
    for name in asked:
        cells = [_count(book, f"outcomes/{name}/{outcome}", counts.get((name, outcome.value), 0)) for outcome in used]
        found = bounds.get(name)
        rows.append((book.titles[name], [*cells, _bounds(book, name, found) if found else Cell("")]))
    heads = [*(outcome.value.replace("_", " ") for outcome in used), "Jaccard if any other answer might be any list"]
    caption = (
        "Answers by what they were, first match first; those that begin with ok are lists. Last column: bounds of "
        "Jaccard if nothing were known of the other answers, and their 95 % interval."
    )
    return Table(caption, heads, rows, selected=book.titles[book.about["selected"]]) if rows else None


def _count(book: Book, path: str, n: int) -> Cell:
    return Cell(f"{n:,}", id=book.finding(path, None).id, about=path)


def _bounds(book: Book, name: str, found: dict[str, Any]) -> Cell:
    cell = book.finding(f"failure_bounds/{name}", found["lower"], found["lo"], found["hi"])
    return Cell(f"{cell.value} to {number(found['upper'], Unit.SCORE)}", cell.interval, cell.id, cell.about)


def effects(book: Book) -> Table | None:
    """Return the effects of rank and step on Jaccard and accuracy."""
    found = {metric: book.about["comparisons"][metric]["effects"] for metric in PRIMARY}
    rows = [
        (line["effect"], [_effect(book, metric, found[metric][i]) for metric in PRIMARY])
        for i, line in enumerate(found[PRIMARY[0]])
    ]
    caption = "Effects of rank and of step over all checkpoints; an epoch is the steps’ common divisor. 95 % intervals."
    return Table(caption, [BY_NAME[metric].title for metric in PRIMARY], rows, "effect") if rows else None


def _effect(book: Book, metric: str, line: dict[str, Any]) -> Cell:
    return book.finding(f"effects/{metric}/{line['effect']}", line["point"], line["lo"], line["hi"], 4)


def winners(book: Book) -> Table | None:
    """Return the best checkpoint as measured and as it is to be believed."""
    rows = []
    for metric in PRIMARY:
        best = book.about["comparisons"][metric]["best"]
        if best and len(book.checkpoints) > 1:
            raw, corrected = (
                book.finding(f"comparisons/{metric}/best/{name}", best[name]) for name in ("raw", "corrected")
            )
            first = book.finding(f"comparisons/{metric}/best/chance", best["chance_of_first"][best["row"]], digits=2)
            tied = Cell(f"{len(best['tied'])} of {len(book.checkpoints)}")
            rows.append((f"{BY_NAME[metric].title}: {book.titles[best['row']]}", [raw, corrected, first, tied]))
    caption = "The best checkpoint of the table, and its score less the optimism of having been picked on these visits."
    return (
        Table(caption, ["raw", "corrected", "first in this share of draws", "tied"], rows, "best by") if rows else None
    )


def ladder(book: Book) -> list[Table]:
    """Return F1 by rung, and what of it is skill, of every row."""
    heads = [rung.upper() if rung.startswith("atc") else rung for rung in RUNGS]
    captions = {
        "ladder_f1": "F1 when two drugs count as one at a rung; pairs one to one, list lengths as they are.",
        "skill_f1": "Skill of the same: 0 is what another patient’s list scores on average, 1 a perfect list.",
    }
    return [
        Table(
            caption,
            heads,
            [(title, _rungs(book, name, metric)) for name, title in book.titles.items()],
            selected=book.titles[book.about["selected"]],
        )
        for metric, caption in captions.items()
    ]


def _rungs(book: Book, row: str, metric: str) -> list[Cell]:
    return [book.figure(row, metric, rung=rung, rule=Rule.ONE_TO_ONE) for rung in RUNGS]


def coverage(book: Book) -> str:
    """Return how many names have a class at all; those without stay in their lists, unmatched."""
    found = mapped(book.sources.evaluation.visits.filter(row=book.about["selected"]))
    shares = [f"{number(found[side].value, Unit.SHARE)} % of the {what}" for side, what in _SIDES]
    return f"{' and '.join(shares)} drugs have an ATC code; the others count as never matched above their names."


def metrics(book: Book, names: Sequence[str], caption: str) -> Table:
    """Return some of METRICS of every row."""
    rows = [(title, [book.metric(name, metric) for metric in names]) for name, title in book.titles.items()]
    heads = [head(name).replace("recall, ", "") if name.startswith("recall_") else head(name) for name in names]
    return Table(caption, heads, rows, selected=book.titles[book.about["selected"]])


def changes(book: Book) -> Table:
    """Return recall of continued and newly started drugs, right stops, and recall by training frequency."""
    caption = (
        "Share of the ordered drugs that were drafted: of those the previous stay had, and of new ones; share of the "
        "stopped ones rightly left out; recall of drugs that training never had, and by fifths of the formulary, "
        "from the rarest (1) to the commonest (5). Visits where it is defined."
    )
    return metrics(book, _CHANGES, caption)


def lists(book: Book) -> Table:
    """Return what is wrong with lists as lists."""
    return metrics(book, _LISTS, "Length less that of the truth, its size, and what stands in the lists.")


def interactions(book: Book) -> Table:
    """Return how many pairs of a list interact, beside the truth of the same visits."""
    rows = [(title, _interacting(book, name)) for name, title in book.titles.items()]
    heads = ["rate, %", "rate of the truth, %", "excess, points", "novel pairs in 100 lists", "pairs known, %"]
    caption = "Pairs of drugs that interact, of all pairs in a list, pooled. Below the truth is not better by itself."
    return Table(caption, heads, rows, selected=book.titles[book.about["selected"]])


def _interacting(book: Book, row: str) -> list[Cell]:
    rate, truth, known = (
        book.figure(row, name, unit=Unit.SHARE, digits=digits)
        for name, digits in (("ddi_rate", 3), ("ddi_rate_truth", 3), ("pair_coverage", 1))
    )
    return [rate, truth, _excess(book, row), book.figure(row, "novel_per_100", digits=2), known]


def _excess(book: Book, row: str) -> Cell:
    """Return the drafts' rate less the truth's on the same visits, paired, in points."""
    visits = book.sources.evaluation.visits.filter(row=row)
    found = interaction_scores(visits)
    pair = [found["ddi_rate"], found["ddi_rate_truth"]]
    num, den = (np.stack([getattr(ratio, side) for ratio in pair], axis=1) for side in ("num", "den"))
    redrawn = book.sources.redrawn
    drawn = draw(visits["subject_id"], num, den, draws=redrawn.draws, seed=redrawn.seed)
    less = combine(drawn, np.array([[1.0, -1.0]])).intervals()
    point, lo, hi = (None if np.isnan(x[0]) else 100 * float(x[0]) for x in (less.point, less.lo, less.hi))
    return book.finding(f"ddi_excess/{row}", point, lo, hi)


def severities(book: Book) -> str:
    """Return the selected checkpoint's rate by severity in words."""
    rates = rates_by_severity(book.sources.evaluation.visits.filter(row=book.about["selected"]))
    return ", ".join(f"{name} {number(rate.value, Unit.SHARE, 3)} %" for name, rate in rates.items())


def calibration(book: Book) -> Table | None:
    """Return how true the probabilities are, over the formulary and over the drugs in question."""
    names = ("brier", "ece", "debiased_ece", "in_the_large")
    rows = [
        (
            f"{book.titles[row['name']]}, {universe}",
            [book.finding(f"calibration/{row['name']}/{universe}/{name}", found[name]) for name in names],
        )
        for row in book.about["rows"]
        for universe, found in sorted(book.about["calibration"].get(row["name"], {}).items(), reverse=True)
    ]
    caption = (
        "Over the whole formulary, where zeros dominate, and over the candidates: drugs with a probability or an "
        "order. Drugs too many: their number as the probabilities have it, less the truth, per visit."
    )
    return Table(caption, ["Brier", "ECE", "ECE, debiased", "drugs too many"], rows) if rows else None


def losses(book: Book) -> Table:
    """Return every checkpoint's losses."""
    rows = [(book.titles[name], [Cell(text) for text in loss_text(book, name)]) for name in book.checkpoints]
    of_labels = frozenset(book.about["checkpoints"][name].get("objective") == LABELS for name in book.checkpoints)
    caption = f"Loss per {_LOSS_PER[of_labels]}: train since the checkpoint before, validation at the checkpoint."
    return Table(caption, ["train", "validation"], rows, "checkpoint", book.titles[book.about["selected"]])


def conventions(book: Book) -> list[Table]:
    """Return the selected checkpoint and the baselines as other papers would have averaged the same counts."""
    shown = [
        row["name"]
        for row in book.about["rows"]
        if row["kind"] != Kind.CHECKPOINT or row["name"] == book.about["selected"]
    ]
    return [_convention(book, shown, rung) for rung in ("drug", LITERATURE_RUNG)]


def _convention(book: Book, names: Sequence[str], rung: str) -> Table:
    rows = [
        (
            f"{book.titles[name]}, {convention}",
            [_averaged(book, name, metric, convention, rung) for metric in _COMPARED],
        )
        for name in names
        for convention in CONVENTIONS
    ]
    label = "names of drugs" if rung == "drug" else f"{rung.upper()} classes, where the literature’s labels are"
    heads = ["precision", "recall", "F1", "Jaccard", "PRAUC", "DDI rate, %", "drugs"]
    return Table(f"By {label}.", heads, rows, "row, convention")


def _averaged(book: Book, name: str, metric: str, convention: str, rung: str) -> Cell:
    unit = {"ddi_rate": Unit.SHARE, "drugs": Unit.DRUGS}.get(metric, Unit.SCORE)
    cell = book.figure(name, metric, convention, rung, unit=unit, digits=3 if metric == "ddi_rate" else None)
    return cell if cell.value else Cell("", about="the convention has none")
