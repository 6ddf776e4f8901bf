"""Write a report and hold it to its sources.

    REPORT/report.html            the page
    REPORT/table.md, table.tex    the main table for reading and for papers
    REPORT/table.csv              every figure, a line each, with its provenance_id
    REPORT/README.md              model card of the checkpoint chosen on validation
    REPORT/tripod_llm.json        what the checklist asks, as far as the files can answer
    REPORT/report.json            what was taken from outside of the evaluation, and digests; written last

It holds counts and shares of many, no row of a patient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.artefacts import sha256
from etl.errors import ContractError
from evaluation.findings import find
from evaluation.report import model_card, text_tables, tripod
from evaluation.report.cells import Book
from evaluation.report.page import render_page
from evaluation.report.sources import MADE_BY, Sources, read_evaluation, read_outside, read_sources
from evaluation.results import tabulate

FORMAT = 1
ABOUT = "report.json"
TOLERANCE = 1e-9
"""Beyond it a figure has drifted; below it lies the order in which processors add."""

_JSON = dict[str, Any]
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])")


def write_report(evaluation: Path, out: Path, reference: Path | None = None, review: Path | None = None) -> list[str]:
    """Write the report of an evaluation, an earlier one at `out` replaced; return the names of its files.

    Args:
        evaluation: folder of `rxdraft evaluate`.
        out: folder to write.
        reference: another's table to show beside ours, see `sources.read_reference`.
        review: folder of `rxdraft review finalize`.

    Raises:
        ConfigError, ContractError: a source is not what it should be, or something else stands at `out`.
    """
    artefacts.check_replaceable(out, ABOUT, "rxdraft report")
    found = read_evaluation(evaluation)
    sources = read_sources(found, read_outside(found, reference, review))
    texts = render(sources)
    about = {
        "format": FORMAT,
        "per_visit_sha256": sources.evaluation.about["per_visit_sha256"],
        "outside": sources.outside,
        "outputs": {name: sha256(text.encode()) for name, text in sorted(texts.items())},
    }
    with artefacts.whole_or_absent(out) as new:
        new.mkdir(parents=True)
        for name, text in texts.items():
            (new / name).write_text(text, "utf-8")
        artefacts.write_json(new / ABOUT, about)
    return [*texts, ABOUT]


def render(sources: Sources) -> dict[str, str]:
    """Return the content of every file but report.json, by name."""
    book = Book(sources)
    page = render_page(book)
    reference = sources.outside.get("reference")
    texts = {
        "report.html": page,
        "table.md": text_tables.markdown(book)
        + (f"\n{text_tables.reference_markdown(reference)}" if reference else ""),
        "table.tex": text_tables.latex(book),
        "table.csv": text_tables.long_table(book).write_csv(),
        "README.md": model_card.render_card(book),
    }
    items = tripod.items(book, page)
    return texts | {"tripod_llm.json": json.dumps(items, indent=2, sort_keys=True, ensure_ascii=False) + "\n"}


# --- the check -----------------------------------------------------------------------------------------


def check_report(evaluation: Path, out: Path) -> int:
    """Recompute every figure from per_visit.parquet and see that all files say the same; return their number.

    Raises:
        ContractError: one does not; the message names the first, by its id where it has one.
    """
    found = read_evaluation(evaluation)
    about = artefacts.read_json(out / ABOUT, "rxdraft report")
    sources = read_sources(found, about["outside"])
    redrawn = sources.redrawn
    results = tabulate(found.visits, found.about["per_visit_sha256"], redrawn)
    if drift := next(_drifted(found.results, results), None):
        raise ContractError(f"results.csv has drifted from per_visit.parquet: {drift}; run `{MADE_BY}` again")
    for path, value in _leaves(find(found.visits, found.about, redrawn)):
        if not _same(_at(found.about, path), value):
            name = "/".join(map(str, path))
            raise ContractError(
                f"evaluation.json has drifted from per_visit.parquet: {name} is {_at(found.about, path)}, "
                f"recomputed {value}; run `{MADE_BY}` again"
            )
    for name, text in render(sources).items():
        stands = (out / name).read_text("utf-8") if (out / name).is_file() else ""
        if stands != text:
            raise ContractError(f"{out / name} has drifted: {_difference(stands, text)}; run `rxdraft report` again")
    tripod.lint(out)
    return results.height


def _drifted(stands: pl.DataFrame, recomputed: pl.DataFrame) -> Iterator[str]:
    """Say which figures of results.csv are not what they should be, in its order."""
    by_id = {line["provenance_id"]: line for line in stands.iter_rows(named=True)}
    for line in recomputed.iter_rows(named=True):
        found = by_id.pop(line["provenance_id"], None)
        label = f"{line['provenance_id']} ({line['row']}, {line['metric']})"
        if found is None:
            yield f"{label} is missing"
            continue
        for name, value in line.items():
            if not _same(found[name], value):
                yield f"{label} has {name} {found[name]}, recomputed {value}"
    yield from (f"{one} ({line['row']}, {line['metric']}) is no figure of it" for one, line in by_id.items())


def _same(stands: Any, value: Any) -> bool:
    if isinstance(stands, float | int) and isinstance(value, float | int):
        return abs(stands - value) <= TOLERANCE * max(1.0, abs(value))
    return bool(stands == value)


def _leaves(found: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every value of a JSON tree with the way to it; an empty branch is a value."""
    branches = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    if not branches or not found:
        yield path, found
        return
    for key, branch in branches:
        yield from _leaves(branch, (*path, key))


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return "missing"
    return tree


def _difference(stands: str, wanted: str) -> str:
    """Say where two texts part: the id of the figure, else the line."""
    if not stands:
        return "it is missing"
    ours, theirs = wanted.splitlines(), stands.splitlines()
    pairs = ((i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1) if a != b)
    number, line, _ = next(pairs, (min(len(ours), len(theirs)) + 1, "", ""))
    figure = _ID.search(line)
    return f"figure {figure[0]}" if figure else f"line {number}"
