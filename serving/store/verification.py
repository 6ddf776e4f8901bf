"""Find what was changed behind the service's back: in the audit trail, and in the drafts and reviews it tells of.

A changed, deleted, inserted or moved event breaks the chain. Events cut off at the end leave a chain that is whole:
only the hash of a head, kept elsewhere, shows it. Content that retention removed is known by its mark and not missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice

from sqlalchemy import Connection, select

from serving.store.canonical import digest
from serving.store.chain import START, event_hash, walk
from serving.store.draft_rows import review_hmac
from serving.store.engine import Store
from serving.store.records import AuditEvent, Verification
from serving.store.schema import drafts, reviews

MOST_PROBLEMS = 50
"""Problems told; the first one already says that the store cannot be trusted."""

_STATES = {
    "draft.queued": ("queued", "running"),
    "draft.recorded": ("ready",),
    "draft.reviewed": ("ready",),
    "draft.finalised": ("final",),
    "draft.failed": ("failed",),
    "draft.cancelled": ("cancelled",),
}
"""The state a draft is in after its last event of these."""


@dataclass(slots=True)
class _Trail:
    """What the trail says there must be."""

    events: int = 0
    head: str = START
    drafts: dict[str, AuditEvent] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    reviews: dict[str, str] = field(default_factory=dict)

    def note(self, event: AuditEvent) -> None:
        """Take in an event that is as it was written."""
        if event.action in _STATES:
            self.drafts[event.object_id] = event
            if event.object_sha256:
                self.digests[event.object_id] = event.object_sha256
        if event.action == "draft.reviewed":
            self.reviews[event.facts["review_id"]] = event.facts["review_hmac"]


def verify(store: Store, head: str | None = None) -> Verification:
    """Walk the audit trail, then compare the drafts and reviews with it.

    Args:
        head: a hash that `Audit.head` gave earlier; it must still be in the chain.
    """
    trail = _Trail()
    with store.reading() as con:
        found = chain(_chain(con, trail, head), _drafts(con, trail), _reviews(con, trail, store))
        problems = tuple(islice(_readable(found), MOST_PROBLEMS))
    return Verification(trail.events, trail.head, problems)


def _readable(problems: Iterator[str]) -> Iterator[str]:
    try:
        yield from problems
    except (KeyError, TypeError, ValueError):  # of JSON or of a moment that we did not write
        yield "a row holds what cannot be read, so that the rest was not looked at"


def _chain(con: Connection, trail: _Trail, head: str | None) -> Iterator[str]:
    seen = head is None or head == START
    for event in walk(con):
        if event.seq > trail.events + 1:
            yield f"events {trail.events + 1} to {event.seq - 1} are missing"
        if event.prev_hash != trail.head:
            yield f"event {event.seq} does not follow the one before it: one of the two was changed, moved or removed"
        if event.hash != event_hash(asdict(event)):
            yield f"event {event.seq} was changed after it was written"
        else:
            trail.note(event)
        trail.events, trail.head = event.seq, event.hash
        seen = seen or event.hash == head
    if not seen:
        yield f"head {head} is not in the chain: its end was cut off, or it is another store's"


def _drafts(con: Connection, trail: _Trail) -> Iterator[str]:
    columns = (drafts.c.draft_id, drafts.c.state, drafts.c.version, drafts.c.content, drafts.c.purged_at)
    missing = set(trail.drafts)
    for row in con.execution_options(yield_per=500).execute(select(*columns).order_by(drafts.c.number)):
        missing.discard(row.draft_id)
        event = trail.drafts.get(row.draft_id)
        found = None if row.content is None else digest(row.content)
        if event is None:
            yield f"draft {row.draft_id} is not in the audit trail"
        elif row.state not in _STATES[event.action] or row.version != event.facts.get("version", 1):
            yield f"draft {row.draft_id} has another state or version than its last event says"
        elif row.purged_at is None and found != trail.digests.get(row.draft_id):
            yield f"draft {row.draft_id} has another content than was recorded"
    yield from (f"draft {draft_id} is missing" for draft_id in sorted(missing))


def _reviews(con: Connection, trail: _Trail, store: Store) -> Iterator[str]:
    missing = set(trail.reviews)
    query = select(reviews).order_by(reviews.c.number)
    for row in con.execution_options(yield_per=500).execute(query).mappings():
        missing.discard(row["review_id"])
        if row["review_id"] not in trail.reviews:
            yield f"review {row['review_id']} is not in the audit trail"
        elif row["text_purged_at"] is None and review_hmac(store, row) != trail.reviews[row["review_id"]]:
            yield f"review {row['review_id']} was changed after it was recorded"
    yield from (f"review {review_id} is missing" for review_id in sorted(missing))
