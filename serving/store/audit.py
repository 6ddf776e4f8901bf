"""The audit trail: who did what to which object and when; nothing about a patient.

Triggers refuse UPDATE and DELETE; whoever owns the database can remove them, and then the chain shows it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, text

from serving.store.chain import START, event_hash
from serving.store.engine import Store
from serving.store.records import AuditEvent, Verification
from serving.store.schema import audit_events
from serving.store.verification import verify

FACTS = frozenset(
    {
        *("count", "counts", "decision", "failure", "format", "item_id", "reason_code", "review_hmac", "review_id"),
        *("roles", "rule_ids", "service_id", "source", "version", "versions"),
    }
)
"""What an event may tell; no name here stands for anything about a patient."""

# Statements are made once: SQLAlchemy keys its cache of compiled ones by looking at all of a new one.
_LOCK = text(f"SELECT pg_advisory_xact_lock({0x72786472})")  # "rxdr": of the append, on PostgreSQL
_LAST = select(audit_events.c.seq, audit_events.c.hash).order_by(audit_events.c.seq.desc()).limit(1)
_INSERT = insert(audit_events)


class Audit:
    """The trail of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(
        self, con: Connection, action: str, actor: str, object_id: str, object_sha256: str | None = None, **facts: Any
    ) -> AuditEvent:
        """Add an event to the caller's transaction, as its last statement.

        Last, since on PostgreSQL everyone who appends waits from here until the commit.

        Args:
            con: of `Store.transaction`.
            action: what was done, as "draft.recorded".
            actor: a `Principal.id`, "worker" or "command".
            facts: of the names in `FACTS`; those that are None are left out.

        Raises:
            ValueError: a fact of another name, which is a mistake in our code.
        """
        if foreign := sorted(set(facts) - FACTS):
            raise ValueError(f"no such fact in an audit event: {', '.join(foreign)}")
        if con.dialect.name == "postgresql":
            con.execute(_LOCK)
        seq, prev_hash = self._last(con)
        content: dict[str, Any] = {
            "seq": seq + 1,
            "at": self._store.now(),
            "action": action,
            "actor": actor,
            "object_id": object_id,
            "object_sha256": object_sha256,
            "facts": {name: fact for name, fact in facts.items() if fact is not None},
            "prev_hash": prev_hash,
        }
        event = AuditEvent(**content, hash=event_hash(content))
        con.execute(_INSERT, {**content, "hash": event.hash})
        return event

    def head(self) -> str:
        """Return the newest event's hash; 64 zeros before the first."""
        with self._store.reading() as con:
            return self._last(con)[1]

    def events(self, object_id: str | None = None, after: int = 0, most: int = 1000) -> list[AuditEvent]:
        """Return events in their order, those after a seq and of one object where given."""
        query = select(audit_events).where(audit_events.c.seq > after).order_by(audit_events.c.seq).limit(most)
        if object_id is not None:
            query = query.where(audit_events.c.object_id == object_id)
        with self._store.reading() as con:
            return [AuditEvent(**row) for row in con.execute(query).mappings()]

    def verify(self, head: str | None = None) -> Verification:
        """Walk the trail and compare it with the drafts and reviews; see `verification.verify`."""
        return verify(self._store, head)

    def _last(self, con: Connection) -> tuple[int, str]:
        row = con.execute(_LAST).one_or_none()
        return (row.seq, row.hash) if row else (0, START)
