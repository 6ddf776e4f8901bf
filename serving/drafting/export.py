"""A draft as a file to take along: JSON, CSV, FHIR."""

from __future__ import annotations

import csv
import io
import json

from fastapi import Response

from serving.schemas import Draft

COLUMNS = (
    *("rank", "drug", "probability", "decision", "edited_drug", "reason_code", "reason_text", "reviewed_at"),
    *("ingredients", "atc", "alerts"),
)


def exported(draft: Draft, format: str, public_url: str) -> Response:  # noqa: A002
    """Return a draft as a file that a browser saves.

    Args:
        draft: with a list.
        format: json, csv or fhir.
        public_url: of the service, for what a Bundle refers to.
    """
    if format == "csv":
        return _file(as_csv(draft), "text/csv; charset=utf-8", f"draft-{draft.draft_id}.csv")
    if format == "fhir":
        from serving.fhir.bundle import draft_bundle

        bundle = draft_bundle(draft.model_dump(mode="json"), public_url)
        return _file(
            json.dumps(bundle, ensure_ascii=False), "application/fhir+json", f"draft-{draft.draft_id}.fhir.json"
        )
    return _file(draft.model_dump_json(indent=2), "application/json", f"draft-{draft.draft_id}.json")


def as_csv(draft: Draft) -> str:
    """Return a line a drug; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
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
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _file(content: str, media_type: str, name: str) -> Response:
    disposition = f'attachment; filename="{name}"'
    return Response(content.encode(), media_type=media_type, headers={"Content-Disposition": disposition})
