"""The tables for papers and programs: Markdown, LaTeX with booktabs, and one figure a line as CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from evaluation.markdown import grid
from evaluation.report.cells import PARITY, Book, Cell, Standing, head, hidden, honest_lines, judged
from evaluation.report.footnotes import MARKS, footnotes
from evaluation.report.sources import Judge
from evaluation.table import main_table

LATEX_FIRST, LATEX_THEN = PARITY, ("accuracy_all", "recall", "f1", "jaccard")
"""Metrics before and behind the judge's column."""
_NUMBER = re.compile(r"[−-]?(?:\d+(?:\.\d+)?|\.\d+)")
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"†": r"\textdagger{}", "‡": r"\textdaggerdbl{}"}


def markdown(book: Book) -> str:
    """Return the main table, and the footnote under it."""
    notes = "\n".join(f"- {subject}: {words}." for subject, words in footnotes(book))
    marks = "; ".join(f"{mark} {words}" for mark, words in MARKS)
    return f"{main_table(book.sources.evaluation).rstrip()}\n\n{notes}\n- Marks: {marks}.\n"


def reference_markdown(rows: Sequence[dict[str, float | None]]) -> str:
    """Return another's table, marked as what it is."""
    shares = ("output_rate", "accuracy", "appropriateness")
    body = [
        [str(row["rank"]), str(row["steps"]), *("–" if (x := row[n]) is None else f"{100 * x:.1f} %" for n in shares)]
        for row in rows
    ]
    text = grid(["rank", "step", "output rate", "accuracy", "appropriateness"], body)
    return f"## For reference: other data, not a row to beat\n\n{text}\n"


# --- LaTeX ---------------------------------------------------------------------------------------------


def latex(book: Book) -> str:
    """Return the main table as a LaTeX float, its footnote as its caption's second half."""
    lines, judge = honest_lines(book), book.sources.judge or book.sources.parity
    titles = [*map(head, LATEX_FIRST), "appropriateness, %", *map(head, LATEX_THEN)]
    body = []
    for line in lines:
        cells = [book.metric(line.name, metric) for metric in LATEX_FIRST]
        cells += [judged(judge, line.name), *(book.metric(line.name, metric) for metric in LATEX_THEN)]
        body.append(" & ".join([escape(line.title), *map(latex_cell, cells)]) + r" \\")
    first_other = next((i for i, line in enumerate(lines) if line.rank is None), len(body))
    if 0 < first_other < len(body):
        body.insert(first_other, r"\midrule")
    notes = " ".join(f"\\emph{{{escape(subject)}:}} {escape(words)}." for subject, words in footnotes(book))
    marks = escape("; ".join(f"{mark} {words}" for mark, words in MARKS))
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs,graphicx} and siunitx 3 with \sisetup{text-series-to-math}.",
            r"\begin{table}",
            r"\centering",
            r"\caption{Drafts scored by rank and step. Bold: best checkpoint of a column; underlined: tied with it.}",
            r"\resizebox{\linewidth}{!}{%",
            r"\begin{tabular}{l" + "c" * len(titles) + "}",
            r"\toprule",
            " & ".join(["", *map(escape, titles)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\footnotesize",
            f"{notes} {marks}.",
            r"\end{table}",
            "",
        ]
    )


def latex_cell(cell: Cell) -> str:
    r"""Return a cell with its interval in small brackets.

    >>> latex_cell(Cell("57.2", "[55.2, 59.3]", standing=Standing.TIED))
    '\\underline{\\num{57.2}} {\\scriptsize [\\num{55.2}, \\num{59.3}]}'
    """
    wrap = {Standing.BEST: r"\textbf{%s}", Standing.TIED: r"\underline{%s}", Standing.NONE: "%s"}[cell.standing]
    value = wrap % _numbers(cell.value) if cell.value else ""
    interval = f" {{\\scriptsize {_numbers(cell.interval)}}}" if cell.interval else ""
    badge = f" {{\\tiny {escape(cell.badge)}}}" if cell.badge else ""
    return value + interval + badge


def escape(text: str) -> str:
    r"""Return text that LaTeX prints as it stands.

    >>> escape("12 % of R&D_x")
    '12 \\% of R\\&D\\_x'
    """
    return "".join(_LATEX.get(character, character) for character in text)


def _numbers(text: str) -> str:
    """Return text with its numbers in \\num, the rest escaped."""
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        parts += [escape(text[end : found.start()]), f"\\num{{{found[0].replace('−', '-')}}}"]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


# --- CSV -----------------------------------------------------------------------------------------------


def long_table(book: Book) -> pl.DataFrame:
    """Return results.csv with each row's name in words, the judge's figures, and hidden what tells of a few."""
    results = book.sources.evaluation.results
    few = pl.struct("mark", "patients").map_elements(
        lambda line: hidden(line, book.about["patients"]), return_dtype=pl.Boolean
    )
    numbers = [pl.when(~few).then(name).alias(name) for name in ("value", "lo", "hi")]
    found = results.with_columns(numbers)
    judges = [
        line
        for judge, convention in ((book.sources.judge, "judge"), (book.sources.parity, "judge, paper-parity"))
        if judge is not None
        for line in _judge_lines(judge, convention, book)
    ]
    if judges:
        found = pl.concat([found, pl.DataFrame(judges, schema=results.schema, orient="row")])
    return found.insert_column(0, found["row"].replace_strict(book.titles, default=found["row"]).alias("display"))


def _judge_lines(judge: Judge, convention: str, book: Book) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for name in book.titles:
        if (row := judge.rows.get(name)) is not None:
            mark = "; ".join(filter(None, (row.status, row.badge)))
            estimand = f"judged drugs; card {judge.card_id}"
            key = (name, "appropriateness", convention, estimand, "drug", "set")
            lines.append((*key, row.value, row.lo, row.hi, row.visits, row.patients, mark, judged(judge, name).id))
    return lines
