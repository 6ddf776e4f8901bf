"""What is to be reached, and every row against the oracle and two baselines, as the page writes them."""

from __future__ import annotations

from evaluation import targets
from evaluation.drafts import SERVED
from evaluation.findings import FOR_LISTS
from evaluation.metrics import BY_NAME, Unit
from evaluation.report.cells import Book, Cell
from evaluation.report.sections import Table


def reached(book: Book) -> Table | None:
    """Return what the recommender that a user gets is to reach, with the verdicts."""
    rows = [(target.name, _verdict(book, target)) for target in targets.targets(book.sources.evaluation)]
    caption = f"What {book.titles.get(SERVED, SERVED)} is to reach. Not surely: a part of the interval says otherwise."
    return Table(caption, ["wanted", "found", "verdict"], rows, "target") if rows else None


def _verdict(book: Book, target: targets.Target) -> list[Cell]:
    lo, hi = (target.lo, target.hi) if target.lo != target.hi else (None, None)
    return [Cell(target.wanted), book.finding(f"targets/{target.name}", target.found, lo, hi), Cell(target.verdict)]


def against(book: Book) -> Table | None:
    """Return every row's F1 and Jaccard as shares of the oracle's, and less each reference's."""
    less = book.about["less_references"]
    found = {
        (metric, reference, line["row"]): line
        for metric, by_reference in less.items()
        for reference, family in by_reference.items()
        for line in family
    }
    oracle = any(book.value(name, f"oracle_share_{FOR_LISTS[0]}")["value"] is not None for name in book.titles)
    shares = [metric for metric in FOR_LISTS if oracle]
    pairs = [(metric, reference) for metric in FOR_LISTS for reference in less[metric]]

    def cells(row: str) -> list[Cell]:
        lines = [(pair, found.get((*pair, row))) for pair in pairs]
        return [
            *(book.figure(row, f"oracle_share_{metric}", unit=Unit.SHARE) for metric in shares),
            *(_less(book, metric, reference, line) for (metric, reference), line in lines),
        ]

    heads = [f"{BY_NAME[metric].title}, % of the oracle’s" for metric in shares]
    heads += [f"{BY_NAME[metric].title} less {book.titles[reference]}" for metric, reference in pairs]
    rows = [(title, cells(name)) for name, title in book.titles.items()]
    caption = "Shares are ratios of means; the differences of a column hold all at once (max-T). 95 % intervals."
    return Table(caption, heads, rows, selected=book.titles[book.about["selected"]]) if heads else None


def _less(book: Book, metric: str, reference: str, line: dict[str, float | None] | None) -> Cell:
    if line is None:  # the reference itself
        return Cell("")
    path = f"less_references/{metric}/{reference}/{line['row']}"
    return book.finding(path, line["point"], line["lo"], line["hi"])
