"""Drafts that are still to be made: queued, claimed by a worker under a lease, completed, failed or cancelled.

A worker that dies loses its lease and another takes the draft up; one that was too slow cannot overwrite the other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, func, insert, or_, select, update

from serving.store import draft_rows
from serving.store.audit import Audit
from serving.store.canonical import canonical, digest
from serving.store.engine import Store
from serving.store.errors import LeaseLostError
from serving.store.idempotency import settle
from serving.store.records import Hit, IdempotencyKey, NewDraft, State, StoredDraft
from serving.store.schema import drafts

MOST_ATTEMPTS = 5
"""A draft whose workers died this often while they made it is failed as "abandoned": it may be what kills them."""

_LOST = "the draft was cancelled, or another worker has it; its result is not kept"

_INSERT = insert(drafts)
_HELD = (drafts.c.state == "running", drafts.c.worker == bindparam("b_worker"))
_BEGIN = (
    update(drafts)
    .where(drafts.c.draft_id == bindparam("b_id"), *_HELD)
    .values(attempts=drafts.c.attempts + 1)
    .returning(drafts.c.number)
)
_GIVE_BACK = (
    update(drafts)
    .where(drafts.c.draft_id.in_(bindparam("b_ids", expanding=True)), *_HELD)
    .values(
        state="queued",
        worker=None,
        lease_until=None,
        attempts=case((drafts.c.attempts > 0, drafts.c.attempts - 1), else_=0),
    )
)


class Queue:
    """The queue of one store.

    Args:
        keep_requests: keep what was asked once the draft is made, not just its keyed hash.
    """

    def __init__(self, store: Store, *, keep_requests: bool = True) -> None:
        self._store = store
        self._audit = Audit(store)
        self._keep_requests = keep_requests

    def submit(self, draft: NewDraft, *, idempotency: IdempotencyKey | None = None) -> StoredDraft:
        """Queue a draft; its request is kept until it is done.

        Raises:
            KeyReusedError, KeyRunningError: of the idempotency key.
        """
        with self._store.transaction() as con:
            settle(self._store, con, idempotency, draft.draft_id)
            stored = self._insert(con, draft, "queued")
            self._audit.append(con, "draft.queued", draft.owner, draft.draft_id, source=draft.source)
            return stored

    def claim(self, worker: str, lease_seconds: float, most: int) -> list[StoredDraft]:
        """Take the oldest drafts that wait, or whose worker's lease ran out; they are running then.

        Args:
            worker: unique among all processes.
        """
        with self._store.reading() as con:  # looking often must not make writers wait
            if con.execute(select(drafts.c.number).where(self._claimable()).limit(1)).first() is None:
                return []
        with self._store.transaction(durable=False) as con:
            query = select(drafts).where(self._claimable()).order_by(drafts.c.number).limit(most)
            rows = con.execute(query.with_for_update(skip_locked=True)).all()
            taken = [row.draft_id for row in rows if row.attempts < MOST_ATTEMPTS]
            lost = [row for row in rows if row.attempts >= MOST_ATTEMPTS]
            con.execute(
                update(drafts)
                .where(drafts.c.draft_id.in_(taken))
                .values(
                    state="running",
                    worker=worker,
                    lease_until=self._store.now() + timedelta(seconds=lease_seconds),
                )
            )
            stored = draft_rows.read(
                con, draft_rows.columns().where(drafts.c.draft_id.in_(taken)).order_by(drafts.c.number)
            )
            for row in lost:
                self._end(con, row, worker, "failed", "abandoned")
            return stored

    def begin(self, draft_id: str, worker: str) -> None:
        """Count an attempt at making a claimed draft; if the worker dies, it is one that failed.

        Raises:
            LeaseLostError: the worker no longer holds it.
        """
        with self._store.transaction(durable=False) as con:
            if con.execute(_BEGIN, {"b_id": draft_id, "b_worker": worker}).first() is None:
                raise LeaseLostError(_LOST)

    def give_back(self, draft_ids: Sequence[str], worker: str) -> None:
        """Queue again what the worker holds and will not make; that it began counts for nothing."""
        with self._store.transaction(durable=False) as con:
            con.execute(_GIVE_BACK, {"b_ids": list(draft_ids), "b_worker": worker})

    def renew(self, draft_ids: Sequence[str], worker: str, lease_seconds: float) -> set[str]:
        """Lengthen the worker's leases; return the drafts it still holds, so that it can stop work on the others."""
        held = (drafts.c.draft_id.in_(draft_ids), drafts.c.state == "running", drafts.c.worker == worker)
        until = self._store.now() + timedelta(seconds=lease_seconds)
        with self._store.transaction(durable=False) as con:
            renewed = con.execute(update(drafts).where(*held).values(lease_until=until).returning(drafts.c.draft_id))
            return set(renewed.scalars())

    def complete(self, draft_id: str, worker: str, content: dict[str, Any], hits: Sequence[Hit] = ()) -> StoredDraft:
        """Store what a claimed draft became; it is ready then.

        Raises:
            LeaseLostError: the worker no longer holds it; nothing is stored.
        """
        with self._store.transaction() as con:
            row = self._held(con, draft_id, worker)
            stored = draft_rows.change(con, row, state="ready", content=content, **self._no_longer_asked())
            draft_rows.write_hits(con, draft_id, hits, stored.version)
            self._recorded(con, worker, stored, hits)
            return stored

    def fail(self, draft_id: str, worker: str, code: str) -> StoredDraft:
        """Say why a claimed draft cannot be made, by a code.

        Raises:
            LeaseLostError: the worker no longer holds it; nothing is stored.
        """
        with self._store.transaction() as con:
            return self._end(con, self._held(con, draft_id, worker), worker, "failed", code)

    def cancel(self, draft_id: str, actor: str) -> StoredDraft:
        """Cancel a draft that is queued or running; one that ended before is returned as it is.

        Raises:
            UnknownDraftError: there is none.
        """
        with self._store.transaction() as con:
            row = draft_rows.lock(con, draft_id)
            if row.state in ("queued", "running"):
                return self._end(con, row, actor, "cancelled", None)
            return draft_rows.read_one(con, draft_id)

    def expire(self, before: datetime) -> int:
        """Fail, as "expired", the drafts asked for before a moment and still not made; return how many."""
        late = (drafts.c.state.in_(("queued", "running")), drafts.c.created_at < before)
        with self._store.transaction() as con:
            rows = con.execute(select(drafts).where(*late).order_by(drafts.c.number).with_for_update()).all()
            for row in rows:
                self._end(con, row, "retention", "failed", "expired")
        return len(rows)

    def waiting(self) -> int:
        """Return how many drafts are queued and not yet claimed."""
        with self._store.reading() as con:
            return con.execute(select(func.count()).where(drafts.c.state == "queued")).scalar_one()

    def ahead_of(self, draft_id: str) -> int:
        """Return how many drafts that are queued or running were asked for before this one."""
        own = select(drafts.c.number).where(draft_rows.is_draft(draft_id)).scalar_subquery()
        ahead = (drafts.c.state.in_(("queued", "running")), drafts.c.number < own)
        with self._store.reading() as con:
            return con.execute(select(func.count()).where(*ahead)).scalar_one()

    def _claimable(self) -> ColumnElement[bool]:
        run_out = (drafts.c.state == "running") & (drafts.c.lease_until < self._store.now())
        return or_(drafts.c.state == "queued", run_out)

    def _held(self, con: Connection, draft_id: str, worker: str) -> Row[Any]:
        row = draft_rows.lock(con, draft_id)
        if row.state != "running" or row.worker != worker:
            raise LeaseLostError(_LOST)
        return row

    def _end(self, con: Connection, row: Row[Any], actor: str, state: State, failure: str | None) -> StoredDraft:
        stored = draft_rows.change(con, row, state=state, failure=failure, **self._no_longer_asked())
        self._audit.append(con, f"draft.{state}", actor, row.draft_id, failure=failure, version=stored.version)
        return stored

    def _no_longer_asked(self) -> dict[str, None]:
        done: dict[str, None] = {"worker": None, "lease_until": None}
        return done if self._keep_requests else {**done, "request": None}

    def _insert(self, con: Connection, draft: NewDraft, state: State) -> StoredDraft:
        values: dict[str, Any] = {
            "draft_id": draft.draft_id,
            "owner": draft.owner,
            "source": draft.source,
            "state": state,
            "version": 1,
            "created_at": self._store.now(),
            "patient_ref": draft.patient_ref,
            "request": draft.request if self._keep_requests or state == "queued" else None,
            "content": draft.content,
            "failure": None,
            "snapshot_sha256": None,
        }
        told = {
            "request_hmac": self._store.keyed(canonical(draft.request).decode()),
            "content_sha256": None if draft.content is None else digest(draft.content),
            "attempts": 0,
        }
        con.execute(_INSERT, values | told)
        draft_rows.write_hits(con, draft.draft_id, draft.hits, 1)
        return StoredDraft(**values, reviews=())

    def _recorded(self, con: Connection, actor: str, stored: StoredDraft, hits: Sequence[Hit]) -> None:
        content = stored.content or {}
        self._audit.append(
            con,
            "draft.recorded",
            actor,
            stored.draft_id,
            digest(content),
            source=stored.source,
            version=stored.version,
            versions=content.get("versions"),
            rule_ids=draft_rows.rule_ids(hits),
        )
