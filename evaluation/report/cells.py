"""The main tables as cells: number, interval, standing and the id under which it can be found again.

HTML and LaTeX write the same cells; what is bold, underlined, hidden or badged is decided here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from etl.artefacts import sha256
from evaluation.drafts import Kind
from evaluation.figures import UNDEFINED, Figures, training_of
from evaluation.ladder import Rule
from evaluation.metrics import BY_NAME, Metric, Over, Unit
from evaluation.report.sources import Judge, Sources
from evaluation.results import metric_draws
from evaluation.statistics.bootstrap import Mark
from evaluation.statistics.comparisons import Best, best

SUPPRESSED = "-"
PARITY = ("output_rate", "accuracy")
HONEST = (
    "accuracy_all",
    "recall",
    "f1",
    "jaccard",
    "prauc",
    "ece",
    "drugs",
    "length_error",
    "unknown",
    "off_formulary",
)

_TITLES = {
    "served": "selected, as it is served",
    "constrained": "selected, its likeliest list",
    "random": "random patient",
    "popularity-by-chapter": "popularity by ICD chapter",
    "previous": "previous admission",
    "knn": "nearest neighbours",
    "logistic": "logistic regression",
    "logistic-history": "logistic regression with history",
    "pooled": "logistic regression pooled over drugs",
    "zero-shot-base": "base model, no adapter",
    "note-swap": "selected, of another patient's note",
    "sex-flip": "selected, F for M and M for F",
    "popularity-by-category": "popularity by ICD category",
}


class Standing(StrEnum):
    """Where a checkpoint stands in a column."""

    NONE = ""
    BEST = "best"
    TIED = "tied"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number as it is printed.

    Attributes:
        value: "–" undefined, "-" suppressed; shares in percent, without the sign.
        interval: "" where there is none.
        id: provenance_id; "" for what is no figure of ours.
        about: what it is a mean of, for those who ask.
        badge: what it cannot be printed without.
    """

    value: str
    interval: str = ""
    id: str = ""
    about: str = ""
    standing: Standing = Standing.NONE
    badge: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    name: str
    title: str
    kind: str
    rank: int | None
    step: int | None
    cells: list[Cell]
    selected: bool = False


def title_of(row: dict[str, Any], about: dict[str, Any]) -> str:
    """Return the name of one of an evaluation's rows as a reader would say it."""
    if row["kind"] == Kind.CHECKPOINT:
        return f"rank {training_of(row, about)}, step {row['step']}"
    return _TITLES.get(row["name"], row["name"])


class Book:
    """All figures of an evaluation as cells."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.about = sources.evaluation.about
        self._figures = Figures(sources.evaluation.results)
        self.titles = {row["name"]: title_of(row, self.about) for row in self.about["rows"]}
        self.checkpoints = [row["name"] for row in self.about["rows"] if row["kind"] == Kind.CHECKPOINT]
        self._standings: dict[str, dict[str, Standing]] = {}

    def value(self, row: str, metric: str) -> dict[str, Any]:
        """Return a line of results.csv, in our own convention, by drug names."""
        return self._figures.find(row, metric)

    def metric(self, row: str, name: str) -> Cell:
        """Return one of `METRICS`, with its standing among the checkpoints."""
        metric = BY_NAME[name]
        cell = self.figure(row, name, unit=metric.unit, own=metric.over is Over.SOME)
        standing = self._standing(metric).get(row, Standing.NONE)
        return Cell(cell.value, cell.interval, cell.id, cell.about, standing)

    def figure(
        self,
        row: str,
        name: str,
        convention: str = "ours",
        rung: str = "drug",
        rule: Rule = Rule.SET,
        *,
        unit: Unit = Unit.SCORE,
        own: bool = False,
        digits: int | None = None,
    ) -> Cell:
        """Return any line of results.csv.

        Args:
            row, name, convention, rung, rule: which.
            unit: how it is written.
            own: it is about some of the patients only, and hidden where they are too few.
            digits: after the point; None: by the unit.
        """
        line = self._figures.find(row, name, convention, rung, rule)
        if "provenance_id" not in line:
            return Cell("")
        about = f"{line['estimand']}; {line['visits']} visits, {line['patients']} patients"
        if own and hidden(line, self.about["patients"]):
            return Cell(SUPPRESSED, id=line["provenance_id"], about="fewer than 20 patients")
        interval = "" if line["lo"] is None else between(line["lo"], line["hi"], unit, digits)
        note = f"; {line['mark']}" if line["mark"] else ""
        return Cell(number(line["value"], unit, digits), interval, line["provenance_id"], about + note)

    def finding(
        self, path: str, value: float | None, lo: float | None = None, hi: float | None = None, digits: int = 3
    ) -> Cell:
        """Return a figure of evaluation.json, or one that follows from the per-visit table at once, by its path."""
        drawn = self.about["redrawn"]
        key = f"{self.about['per_visit_sha256']} {path}|{drawn['draws']}|{drawn['seed']}"
        interval = "" if lo is None or hi is None else between(lo, hi, Unit.SCORE, digits)
        return Cell(number(value, Unit.SCORE, digits), interval, sha256(key.encode())[:12], path)

    def _standing(self, metric: Metric) -> dict[str, Standing]:
        """Return the best checkpoint and those not to be told from it: all pairs, max-T."""
        if metric.higher is None or len(self.checkpoints) < 2:
            return {}
        if metric.name not in self._standings:
            drawn = metric_draws(self.sources.evaluation.visits, metric.name, self.checkpoints, self.sources.redrawn)
            found = best(drawn, higher=metric.higher)
            self._standings[metric.name] = {} if found is None else self._marks(metric, found)
        return self._standings[metric.name]

    def _marks(self, metric: Metric, found: Best) -> dict[str, Standing]:
        """Mark the best, all that equal it, and those tied with it; nobody where all print the same."""
        texts = {number(self.value(name, metric.name)["value"], metric.unit) for name in self.checkpoints}
        if len(texts) == 1:
            return {}
        first = self.value(self.checkpoints[found.index], metric.name)["value"]
        tied = [name for name, is_tied in zip(self.checkpoints, found.tied, strict=True) if is_tied]
        equal = {name for name in self.checkpoints if self.value(name, metric.name)["value"] == first}
        return dict.fromkeys(tied, Standing.TIED) | dict.fromkeys(equal, Standing.BEST)


def hidden(line: dict[str, Any], patients: int) -> bool:
    """Say whether a figure tells of a few among the patients of an evaluation."""
    return line["mark"] == Mark.TOO_FEW and line["patients"] < patients


def judged(judge: Judge | None, row: str) -> Cell:
    """Return a row's appropriateness with what it cannot be printed without."""
    if judge is None:
        return Cell("not judged")
    found = judge.rows.get(row)
    if found is None:
        return Cell("")
    key = sha256(f"{judge.card_id} {row}|appropriateness".encode())[:12]
    about = f"{found.status}; {found.drugs} drugs, {found.visits} visits, {found.patients} patients"
    return Cell(found.text, id=key, about=about, badge=found.badge)


def parity_lines(book: Book) -> list[Line]:
    """Return the reference's table: output rate, accuracy, appropriateness, of the checkpoints alone."""
    judge = book.sources.parity or book.sources.judge
    return _lines(book, lambda name: [*(book.metric(name, metric) for metric in PARITY), judged(judge, name)], True)


def honest_lines(book: Book) -> list[Line]:
    """Return every row with the columns of HONEST, and a judge's behind them where one was asked."""
    judge = book.sources.judge

    def cells(name: str) -> list[Cell]:
        return [*(book.metric(name, metric) for metric in HONEST), *([judged(judge, name)] if judge else [])]

    return _lines(book, cells)


def _lines(book: Book, cells: Callable[[str], list[Cell]], checkpoints_only: bool = False) -> list[Line]:
    return [
        Line(
            row["name"],
            book.titles[row["name"]],
            row["kind"],
            row["rank"],
            row["step"],
            cells(row["name"]),
            row["name"] == book.about["selected"],
        )
        for row in book.about["rows"]
        if row["kind"] == Kind.CHECKPOINT or not checkpoints_only
    ]


def number(value: float | None, unit: Unit, digits: int | None = None) -> str:
    """Write a number; a share in percent, its sign left to the column's head.

    >>> number(0.5724, Unit.SHARE), number(-0.0306, Unit.SCORE), number(None, Unit.DRUGS)
    ('57.2', '−0.031', '–')
    """
    if value is None:
        return UNDEFINED
    places = digits if digits is not None else 3 if unit is Unit.SCORE else 1
    text = f"{100 * value if unit is Unit.SHARE else value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def between(lo: float, hi: float, unit: Unit, digits: int | None = None) -> str:
    """Write an interval.

    >>> between(0.55, 0.593, Unit.SHARE)
    '[55.0, 59.3]'
    """
    return f"[{number(lo, unit, digits)}, {number(hi, unit, digits)}]"


def head(metric: str) -> str:
    """Return a column's head with its unit."""
    found = BY_NAME[metric]
    return f"{found.title}, %" if found.unit is Unit.SHARE else found.title
