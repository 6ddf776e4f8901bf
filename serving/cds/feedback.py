"""What clients tell of our cards afterwards."""

from __future__ import annotations

from serving.cds.cards import REASONS
from serving.cds.models import Accepted, Feedback, Overridden
from serving.fhir.read import text
from serving.store.records import NewFeedback

OTHER_REASON = "other"
"""Stands for any code that our cards do not offer: a client's own words do not reach the audit trail."""


def to_records(feedback: Feedback, client: str, service_id: str) -> list[NewFeedback]:
    """Return what is stored; a comment is free text and goes to a column of its own.

    Args:
        feedback: as sent.
        client: a `Principal.id`.
        service_id: as called.
    """
    return [_record(outcome, client, service_id) for outcome in feedback.feedback]


def _record(outcome: Accepted | Overridden, client: str, service_id: str) -> NewFeedback:
    accepted = outcome.accepted_suggestions if isinstance(outcome, Accepted) else []
    override = outcome.override_reason if isinstance(outcome, Overridden) else None
    code = override.reason.code if override and override.reason else None
    return NewFeedback(
        card_id=outcome.card,
        client=client,
        service_id=service_id,
        outcome=outcome.outcome,
        outcome_timestamp=outcome.outcome_timestamp,
        suggestion_ids=tuple(dict.fromkeys(one.id for one in accepted)),
        reason_code=code if code is None or code in REASONS else OTHER_REASON,
        comment=text(override.user_comment, 4000) if override else None,
    )
