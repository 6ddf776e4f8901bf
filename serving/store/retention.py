"""How long what is kept: content goes, its digests stay, so that the audit trail still verifies.

On SQLite what is removed is overwritten in the file. PostgreSQL's own vacuum frees it there, and backups of either
hold it as long as they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Table, delete, func, null, select, update

from serving.store.audit import Audit
from serving.store.engine import Store
from serving.store.faults import as_store_errors
from serving.store.queue import Queue
from serving.store.schema import (
    cds_cards,
    cds_feedback,
    counters,
    drafts,
    idempotency,
    reviews,
    sessions,
    used_tokens,
)

_BLOCK = 500
"""Rows changed in one transaction, so that a server's writes get between."""


@dataclass(frozen=True, slots=True)
class Ages:
    """How old what may become; None: it is kept for ever."""

    drafts: timedelta | None = timedelta(days=90)
    """Content and request of drafts, and drugs put in by reviewers; drafts never made are failed."""
    reasons: timedelta | None = timedelta(days=30)
    """Free-text reasons of reviews and comments of CDS feedback."""
    cds: timedelta | None = timedelta(days=90)
    """CDS cards and their feedback."""
    idempotency: timedelta = timedelta(hours=24)


def ages_of_days(drafts: float | None, reasons: float | None, cds: float | None) -> Ages:
    """Return ages given in days; None: for ever."""
    ages = [None if days is None else timedelta(days) for days in (drafts, reasons, cds)]
    return Ages(ages[0], ages[1], ages[2])


def sweep(store: Store, ages: Ages | None = None) -> dict[str, int]:
    """Delete what has expired and tells nobody anything any more; cheap, for a server's timer.

    Returns:
        How many idempotency keys, sessions, used tokens and counters were deleted.
    """
    now, oldest = store.now(), store.now() - (ages or Ages()).idempotency
    expired = {
        idempotency: idempotency.c.created_at < oldest,
        sessions: sessions.c.expires_at < now,
        used_tokens: used_tokens.c.expires_at < now,
        counters: counters.c.full_until < now.timestamp(),
    }
    with store.transaction(durable=False) as con:
        return {table.name: con.execute(delete(table).where(which)).rowcount for table, which in expired.items()}


def purge(store: Store, ages: Ages | None = None, actor: str = "command") -> dict[str, int]:
    """Remove everything that is older than its age; if anything was, that is noted in the audit trail.

    Returns:
        How many rows of which kind lost their content or were deleted.
    """
    ages = ages or Ages()
    drafted, texts, cards = (
        None if age is None else store.now() - age for age in (ages.drafts, ages.reasons, ages.cds)
    )
    done = {
        "expired_drafts": 0 if drafted is None else Queue(store, keep_requests=False).expire(drafted),
        "drafts": _in_blocks(store, drafted, _purge_drafts),
        "edits": _in_blocks(store, drafted, _purge_edits),
        "reasons": _in_blocks(store, texts, partial(_purge_texts, reviews, "reason_text")),
        "comments": _in_blocks(store, texts, partial(_purge_texts, cds_feedback, "comment")),
        "cards": _in_blocks(store, cards, _delete_cards),
    }
    if any(done.values()):
        with store.transaction() as con:
            Audit(store).append(con, "store.purged", actor, "store", counts=done)
        if store.engine.dialect.name == "sqlite":
            _empty_wal(store)
    return {**done, **sweep(store, ages)}


def _in_blocks(store: Store, before: datetime | None, change: Callable[[Connection, datetime, datetime], int]) -> int:
    """Change what is from before a moment, a block at a time; `change` is given the moment, and what time it is."""
    total = 0
    while before is not None:
        with store.transaction(durable=False) as con:  # the event of the purge, at its end, is durable
            changed = change(con, before, store.now())
        total += changed
        if not changed:
            break
    return total


def _purge_drafts(con: Connection, before: datetime, now: datetime) -> int:
    old = (
        drafts.c.created_at < before,
        drafts.c.purged_at.is_(None),
        drafts.c.state.not_in(("queued", "running")),
    )
    gone = {"content": null(), "request": null(), "patient_ref": null(), "purged_at": now}
    return _change(con, drafts, drafts.c.number, old, gone)


def _purge_edits(con: Connection, before: datetime, now: datetime) -> int:
    purged = select(drafts.c.draft_id).where(drafts.c.purged_at.is_not(None))
    old = (reviews.c.edited_drug.is_not(None), reviews.c.draft_id.in_(purged))
    gone = {"edited_drug": null(), "text_purged_at": func.coalesce(reviews.c.text_purged_at, now)}
    return _change(con, reviews, reviews.c.number, old, gone)


def _purge_texts(table: Table, column: str, con: Connection, before: datetime, now: datetime) -> int:
    old = (table.c.created_at < before, table.c[column].is_not(None))
    key = reviews.c.number if table is reviews else cds_feedback.c.card_id
    return _change(con, table, key, old, {column: null(), "text_purged_at": now})


def _delete_cards(con: Connection, before: datetime, now: datetime) -> int:
    old = cds_cards.c.created_at < before
    ids = con.execute(select(cds_cards.c.card_id).where(old).limit(_BLOCK)).scalars().all()
    con.execute(delete(cds_feedback).where(cds_feedback.c.card_id.in_(ids)))
    return con.execute(delete(cds_cards).where(cds_cards.c.card_id.in_(ids))).rowcount


def _change(con: Connection, table: Table, key: Any, old: tuple[Any, ...], values: dict[str, Any]) -> int:
    block = select(key).where(*old).order_by(key).limit(_BLOCK)
    return con.execute(update(table).where(key.in_(block), *old).values(values)).rowcount


def _empty_wal(store: Store) -> None:
    """Move everything into the file and empty the log beside it, which still holds what was removed."""
    with as_store_errors(store.name), store.engine.connect() as con:
        raw: Any = con.connection.driver_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
