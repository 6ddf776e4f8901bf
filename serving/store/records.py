"""What goes into the store and what comes out of it, as frozen dataclasses; no database here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Source = Literal["api", "page", "cds"]
State = Literal["queued", "running", "ready", "failed", "cancelled", "final"]
Decision = Literal["accept", "edit", "reject", "undo"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that fired on a draft; the share of overridden ones says which rules nobody heeds.

    Attributes:
        item_ids: the draft's rows it concerns.
        overridden: a row it concerns was accepted all the same.
    """

    rule_id: str
    rule_version: str
    tier: str
    item_ids: tuple[str, ...] = ()
    overridden: bool = False


@dataclass(frozen=True, slots=True)
class NewDraft:
    """A draft to record (with content) or to queue (without).

    Attributes:
        draft_id: made by the caller, never from anything about a patient.
        owner: a `Principal.id`; only drafts of the same owner are listed together.
        request: what was asked, to be drafted from and screened again.
        content: the draft as answered, JSON; `versions` in it goes to the audit trail.
        patient_ref: a keyed hash (`Store.keyed`), for finding a patient's newest draft.
    """

    draft_id: str
    owner: str
    source: Source
    request: dict[str, Any]
    content: dict[str, Any] | None = None
    hits: tuple[Hit, ...] = ()
    patient_ref: str | None = None


@dataclass(frozen=True, slots=True)
class NewReview:
    """A decision about one row of a draft; `undo` takes the row's earlier decision back."""

    item_id: str
    decision: Decision
    reviewer: str
    edited_drug: str | None = None
    reason_code: str | None = None
    reason_text: str | None = None


@dataclass(frozen=True, slots=True)
class StoredReview:
    """A review with the draft's version that it made; after retention edited_drug and reason_text are None."""

    review_id: str
    item_id: str
    decision: Decision
    reviewer: str
    edited_drug: str | None
    reason_code: str | None
    reason_text: str | None
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """A draft as it stands.

    Attributes:
        version: grows by one with every change that a reader can see.
        request: None once it is no longer kept.
        content: None until the draft is ready, and again after retention removed it (`purged`).
        failure: why it failed, a code.
        reviews: all of them, the oldest first; the last one of a row counts.
        snapshot_sha256: of the content's canonical JSON, once final.
        attempts: how often making it was begun and not ended, while it is not ready.
    """

    draft_id: str
    owner: str
    source: Source
    state: State
    version: int
    created_at: datetime
    request: dict[str, Any] | None
    content: dict[str, Any] | None
    failure: str | None
    patient_ref: str | None
    reviews: tuple[StoredReview, ...]
    snapshot_sha256: str | None
    attempts: int = 0
    purged: bool = False

    def decisions(self) -> dict[str, StoredReview]:
        """Return the review that counts for each row that has one, by item_id."""
        latest = {review.item_id: review for review in self.reviews}
        return {item_id: review for item_id, review in latest.items() if review.decision != "undo"}


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client sent as Idempotency-Key, with the SHA-256 of the call it came with (method, route and body)."""

    owner: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key without its secret part: only that part's SHA-256 is kept."""

    key_id: str
    name: str
    secret_sha256: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredKey(NewKey):
    """An API key as it stands; last_used_at is kept to the minute."""

    created_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A page's session; `principal` is what the caller gave when it began."""

    token_sha256: str
    principal: dict[str, Any]
    csrf_sha256: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewCard:
    """A CDS Hooks card that was shown.

    Attributes:
        card_id: the card's uuid.
        client: who called, a `Principal.id`.
        suggestion_ids: uuids of its suggestions.
    """

    card_id: str
    client: str
    service_id: str
    indicator: str
    draft_id: str | None = None
    rule_ids: tuple[str, ...] = ()
    suggestion_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """What became of a card.

    Attributes:
        client: who called; a card of another client counts as unknown.
        outcome_timestamp: as sent; the same feedback sent again is stored once.
        suggestion_ids: the accepted ones.
        comment: free text; None where the site drops it.
    """

    card_id: str
    client: str
    service_id: str
    outcome: Literal["accepted", "overridden"]
    outcome_timestamp: str
    suggestion_ids: tuple[str, ...] = ()
    reason_code: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One link of the audit trail.

    Attributes:
        seq: 1, 2, 3, ... without a gap.
        facts: ids, versions, rule ids, reason codes and counts; nothing about a patient.
        prev_hash: the hash of the event before, 64 zeros for the first.
        hash: SHA-256 of prev_hash and the canonical JSON of the rest.
    """

    seq: int
    at: datetime
    action: str
    actor: str
    object_id: str
    object_sha256: str | None
    facts: dict[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the audit trail found; `problems` is empty where all is as it was written."""

    events: int
    head: str
    problems: tuple[str, ...]
