"""The chain of hashes: hash = SHA-256(prev_hash + canonical JSON of the event)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from serving.store.canonical import canonical
from serving.store.records import AuditEvent
from serving.store.schema import audit_events

START = "0" * 64
"""What the first event follows."""


def event_hash(event: dict[str, Any]) -> str:
    """Return the hash of an event, given as its columns; a hash among them does not count."""
    content = {name: value for name, value in event.items() if name not in ("hash", "prev_hash")}
    told = canonical(content | {"at": event["at"].isoformat(timespec="microseconds")})
    return hashlib.sha256(event["prev_hash"].encode() + told).hexdigest()


def walk(con: Connection, block: int = 2000) -> Iterator[AuditEvent]:
    """Yield every event in its order, a block at a time in memory."""
    query = select(audit_events).order_by(audit_events.c.seq)
    for row in con.execution_options(yield_per=block).execute(query).mappings():
        yield AuditEvent(**row)
