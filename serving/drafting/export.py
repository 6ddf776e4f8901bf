"""A draft as a file to take along: JSON, CSV, FHIR. It knows no HTTP."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import dataclass

from serving.schemas import Draft

COLUMNS = (
    *("rank", "drug", "probability", "decision", "edited_drug", "reason_code", "reason_text", "reviewed_at"),
    *("ingredients", "atc", "alerts"),
)


@dataclass(frozen=True, slots=True)
class File:
    """What a browser saves."""

    content: str
    media_type: str
    name: str


def exported(draft: Draft, format: str, public_url: str) -> File:  # noqa: A002
    """Return a draft as a file.

    Args:
        draft: with a list.
        format: json, csv or fhir.
        public_url: of the service, for what a Bundle refers to.
    """
    if format == "csv":
        return File(as_csv(draft), "text/csv; charset=utf-8", f"draft-{draft.draft_id}.csv")
    if format == "fhir":
        from serving.fhir.bundle import draft_bundle

        bundle = draft_bundle(draft.model_dump(mode="json"), public_url)
        return File(
            json.dumps(bundle, ensure_ascii=False), "application/fhir+json", f"draft-{draft.draft_id}.fhir.json"
        )
    return File(draft.model_dump_json(indent=2), "application/json", f"draft-{draft.draft_id}.json")


def as_csv(draft: Draft) -> str:
    """Return a line a drug; a cell that a spreadsheet could run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in draft.drugs:
        review = item.review
        alerts = [one.rule_id for one in draft.screening.alerts if item.item_id in one.items] if draft.screening else []
        cells = (
            *(item.rank, item.drug, item.probability),
            *(review and review.decision, review and review.edited_drug),
            *(review and review.reason_code, review and review.reason_text),
            review and review.reviewed_at.isoformat(),
            *("; ".join(item.ingredients), "; ".join(item.atc), "; ".join(alerts)),
        )
        writer.writerow([_inert(cell) for cell in cells])
    return out.getvalue()


def _inert(cell: object) -> object:
    """Spreadsheets pass over blanks before a formula, and some take a full-width sign for a plain one."""
    if not isinstance(cell, str):
        return cell
    begins = unicodedata.normalize("NFKC", cell).lstrip()[:1] in ("=", "+", "-", "@")
    return f"'{cell}" if begins or cell[:1] in ("\t", "\r", "\n") else cell
