"""The report as one HTML page that needs no network, no script and no colour to be read."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from etl.report import plain
from evaluation.report import against, forests, judging, pictures, sections
from evaluation.report.cells import HONEST, PARITY, Book, head, honest_lines, parity_lines
from evaluation.report.footnotes import MARKS, footnotes

_DIGEST = 12
_LONG = 14
"""Letters of a head or a cell that stand in one line."""

_OF_CHECKPOINT = (
    *("base", "objective", "method", "alpha", "targets", "frozen", "trainable_parameters", "samples", "shortened"),
    *("max_length", "max_answer_tokens", "prompt_version"),
)


def render_page(book: Book) -> str:
    """Render the page; the same sources give the same bytes."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"count": _count, "percent": _percent, "digest": _digest, "plain": plain, "wrapped": _wrapped}
    here = files("evaluation.report")
    template = page.from_string((here / "page.html.jinja").read_text("utf-8"))
    outside = book.sources.outside
    judges = [judge for judge in (book.sources.judge, book.sources.parity) if judge is not None]
    return template.render(
        style=Markup((here / "page.css").read_text("utf-8")),  # noqa: S704 our own file
        book=book,
        about=book.about,
        selected=book.titles[book.about["selected"]],
        selected_jaccard=book.metric(book.about["selected"], "jaccard"),
        best_baselines=[
            (book.titles[n], book.metric(n, "jaccard")) for _, n in pictures.best_baseline(book, "jaccard")
        ],
        parity=parity_lines(book),
        parity_heads=[*map(head, PARITY), "appropriateness, %"],
        honest=honest_lines(book),
        honest_heads=[*map(head, HONEST), *(["appropriateness, %"] if book.sources.judge else [])],
        reference=outside.get("reference"),
        steps=pictures.steps(book),
        failures=sections.failures(book),
        lists=sections.lists(book),
        reached=against.reached(book),
        against=against.against(book),
        forests=forests.comparisons(book),
        effects=sections.effects(book),
        winners=sections.winners(book),
        ladder_plots=pictures.ladder(book),
        ladder=sections.ladder(book),
        coverage=sections.coverage(book),
        changes=sections.changes(book),
        interactions=sections.interactions(book),
        severities=sections.severities(book),
        reliability=pictures.reliability(book),
        calibration=sections.calibration(book),
        subgroups=forests.subgroups(book),
        curves=pictures.curves(book),
        logged=any(curve["train"] for curve in outside["curves"].values()),
        losses=sections.losses(book),
        judges=[(judging.verdict(j), judging.rows(book, j), judging.facts(j)) for j in judges],
        human=judging.human(book),
        cohort=outside.get("cohort"),
        manifest=outside.get("manifest"),
        settings=_settings(outside.get("manifest")),
        conventions=sections.conventions(book),
        footnotes=footnotes(book),
        marks=MARKS,
        STRIP=forests.STRIP,
    )


def _settings(manifest: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """Return what the selected checkpoint was trained with; the config's settings where it does not repeat itself."""
    if manifest is None:
        return []
    own = {name: manifest[name] for name in _OF_CHECKPOINT}
    config = {name: value for name, value in sorted(manifest["config"].items()) if name not in own and value != []}
    return [(name, value) for name, value in {**own, **config}.items() if value is not None]


def _count(value: int | None) -> str:
    return "hidden" if value is None else f"{value:,}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _digest(value: str) -> str:
    return value[:_DIGEST]


def _wrapped(text: str) -> str:
    """Let a long head or cell break."""
    return Markup('<span class="wrap">{}</span>').format(text) if len(text) > _LONG else text
