"""The agreement page: agreement.json for people, in one file that needs no network, no script and no colour."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2

from evaluation.review.form import FIELDS, VERDICTS
from evaluation.statistics.bootstrap import DRAWS, FEWEST_PATIENTS

_DASH = "–"


def render_page(merged: dict[str, Any], made: dict[str, Any]) -> str:
    """Render what `merge_review` found; the same content gives the same bytes.

    Args:
        merged: as agreement.json holds it.
        made: review.json.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"figure": _figure, "interval": _interval, "share": _share, "percent": _percent, "left": _left}
    template = page.from_string((files("evaluation.review") / "agreement.html.jinja").read_text("utf-8"))
    return template.render(
        merged=merged,
        made=made,
        questions={field.name: field.question for field in FIELDS},
        verdict=merged["agreement"]["verdict"],
        criteria={name: found for name, found in merged["agreement"].items() if name != "verdict"},
        verdicts=[verdict.replace("_", " ") for verdict in VERDICTS],
        DRAWS=DRAWS,
        FEWEST_PATIENTS=FEWEST_PATIENTS,
    )


def _figure(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}".replace("-", "−")


def _interval(found: dict[str, Any]) -> str:
    return "" if found["lo"] is None else f"{_figure(found['lo'])} to {_figure(found['hi'])}"


def _percent(value: float | None) -> str:
    return _DASH if value is None else f"{100 * value:.0f} %"


def _share(found: dict[str, Any]) -> str:
    if not found["n"]:
        return _DASH
    return (
        f"{found['k']} of {found['n']} ({_percent(found['value'])}; {100 * found['lo']:.0f} to {100 * found['hi']:.0f})"
    )


def _left(value: float) -> str:
    """Return a place on the scale from 0 to 1 in percent; what is below 0 stands at its end."""
    return f"{100 * min(1.0, max(0.0, value)):.1f}%"
