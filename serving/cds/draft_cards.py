"""Drafts as cards. Nothing is ordered or preselected: one drug is one suggestion, one with a critical alert is none."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from serving.cds.cards import CardWriter, new_id
from serving.cds.models import Action, Card, Context, Link, Suggestion
from serving.cds.prefetch import PatientFacts
from serving.cds.words import escape, fitted
from serving.fhir.bundle import proposal
from serving.screening import Screening

if TYPE_CHECKING:
    from serving.schemas import Draft, DraftedDrug

Row = tuple["DraftedDrug", str]
"""A row of a draft, and its drug as it reads after review."""


def standing_rows(draft: Draft) -> list[Row]:
    """Return the rows that were not rejected."""
    reviews = [(row, row.review) for row in draft.drugs]
    return [
        (row, (review and review.edited_drug) or row.drug)
        for row, review in reviews
        if review is None or review.decision != "reject"
    ]


def draft_card(
    write: CardWriter, draft: Draft, context: Context, facts: PatientFacts, screening: Screening, newer: str | None
) -> Card:
    """Return a stored draft as one card.

    Args:
        write: the caller's card writer.
        draft: ready or final.
        context: whom the proposals are for.
        facts: as known now.
        screening: of the draft's standing drugs by these facts.
        newer: id of a newer draft on its way, which the link then opens; None: there is none.
    """
    rows = standing_rows(draft)
    critical = {drug for alert in screening.alerts if alert.tier == "critical" for drug in alert.drugs}
    suggestions = tuple(_suggestion(write, row, context) for row in rows if row[1] not in critical)
    withheld = [drug for _, drug in rows if drug in critical]
    diagnoses = write.say.counted("diagnoses", len(facts.diagnoses or ()))
    return write.card(
        "info",
        summary=write.say.counted("draft", len(rows), diagnoses=diagnoses),
        detail="\n\n".join(
            [
                _table(write, rows),
                *([write.say("meaning", calibration=_calibration(write, draft))] if draft.probabilities else []),
                *([write.say("withheld", names=write.say.listed(withheld))] if withheld else []),
                *write.findings([alert for alert in screening.alerts if alert.tier != "info"]),
                *write.unseen(screening, facts),
                *([write.say("newer")] if newer else []),
                write.say("made_at", moment=f"{draft.created_at.astimezone(UTC):%Y-%m-%d %H:%M}"),
                write.say("review"),
            ]
        ),
        source=write.source("model", draft.versions.model if draft.versions else ""),
        override_reasons=write.reasons(),
        suggestions=suggestions or None,
        selection_behavior="any" if suggestions else None,
        links=(_review_link(write, newer or draft.draft_id),),
    )


def waiting_card(write: CardWriter, draft_id: str, model: str, facts: PatientFacts) -> Card:
    """Return the card of a draft that a model has not made yet: a link to where it will be read."""
    diagnoses = write.say.counted("diagnoses", len(facts.diagnoses or ()))
    waiting = write.say("waiting_detail", diagnoses=diagnoses)
    return write.card(
        "info",
        summary=write.say("waiting"),
        detail="\n\n".join([waiting, *write.gaps(facts), write.say("review")]),
        source=write.source("model", model),
        links=(_review_link(write, draft_id),),
    )


def _table(write: CardWriter, rows: list[Row]) -> str:
    head = f"| # | {write.say('drug')} | p |\n|--|--|--|"
    return "\n".join([head, *(f"| {row.rank} | {escape(drug)} | {_chance(row, drug)} |" for row, drug in rows)])


def _calibration(write: CardWriter, draft: Draft) -> str:
    admissions = getattr(draft.model, "calibrated_on", None)
    return write.say("uncalibrated") if admissions is None else write.say("calibrated", count=admissions)


def _chance(row: DraftedDrug, drug: str) -> str:
    return f"{row.probability:.2f}" if row.probability is not None and drug == row.drug else "–"


def _suggestion(write: CardWriter, row: Row, context: Context) -> Suggestion:
    drafted, drug = row
    resource = proposal(drug, drafted.atc if drug == drafted.drug else (), context.patient_id, context.encounter_id)
    action = Action(description=write.say("action", drug=drug), resource=resource)
    return Suggestion(label=fitted(write.say("suggestion", drug=drug), 80), uuid=new_id(), actions=(action,))


def _review_link(write: CardWriter, draft_id: str) -> Link:
    return Link(label=write.say("open_review"), url=f"{write.public_url}/drafts/{draft_id}")
