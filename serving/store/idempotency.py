"""Idempotency keys: a call that is sent again gives what the first gave, and does nothing twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from serving.store.engine import Store
from serving.store.errors import KeyReusedError, KeyRunningError
from serving.store.records import IdempotencyKey
from serving.store.schema import idempotency

_REUSED = "the Idempotency-Key came with another call before; make a new one"
_RUNNING = "the first call with this Idempotency-Key is still running; wait, then send it again"


_THIS = (idempotency.c.owner == bindparam("b_owner"), idempotency.c.key_hmac == bindparam("b_key"))
_RUNS = (*_THIS, idempotency.c.draft_id.is_(None))
_SELECT = select(idempotency).where(*_THIS)
_FOR_UPDATE = _SELECT.with_for_update()
_INSERT = insert(idempotency)
_AGAIN = update(idempotency).where(*_RUNS).values(created_at=bindparam("created_at"))
_RELEASE = delete(idempotency).where(*_RUNS)
_SETTLE = (
    update(idempotency)
    .where(*_RUNS, idempotency.c.body_sha256 == bindparam("b_body"))
    .values(draft_id=bindparam("draft_id"))
)


class Idempotency:
    """The keys of one store.

    Args:
        running_seconds: longer than any call takes; one that began longer ago was killed, and its key may begin again.
    """

    def __init__(self, store: Store, *, running_seconds: float = 600) -> None:
        self._store = store
        self._running = timedelta(seconds=running_seconds)

    def find(self, key: IdempotencyKey) -> str | Literal["running"] | None:
        """Return the draft that the first call made, "running" while there is none, None for a new key.

        Raises:
            KeyReusedError: the key came with another body.
        """
        with self._store.reading() as con:
            row = _row(self._store, con, key)
        if row is None or (row.draft_id is None and row.created_at < self._store.now() - self._running):
            return None
        return row.draft_id or "running"

    def begin(self, key: IdempotencyKey) -> str | None:
        """Claim a key for the call that now starts; return the draft instead if an earlier call made one.

        Raises:
            KeyReusedError: the key came with another body.
            KeyRunningError: an earlier call with it still runs.
        """
        with self._store.transaction(durable=False) as con:
            row = _row(self._store, con, key, lock=True)
            if row is None:
                _insert(self._store, con, key, None)
            elif row.draft_id is None and row.created_at >= self._store.now() - self._running:
                raise KeyRunningError(_RUNNING)
            elif row.draft_id is None:
                con.execute(_AGAIN, {**_named(self._store, key), "created_at": self._store.now()})
            return row.draft_id if row else None

    def release(self, key: IdempotencyKey) -> None:
        """Forget a key whose call failed, so that it can be sent again."""
        with self._store.transaction(durable=False) as con:
            con.execute(_RELEASE, _named(self._store, key))


def settle(store: Store, con: Connection, key: IdempotencyKey | None, draft_id: str) -> None:
    """Say in the caller's transaction which draft a key's call made.

    Raises:
        KeyReusedError: the key came with another body.
        KeyRunningError: a call that began later was quicker; send again to get its draft.
    """
    if key is None:
        return
    named = _named(store, key)
    if con.execute(_SETTLE, {**named, "b_body": key.body_sha256, "draft_id": draft_id}).rowcount:
        return
    if _row(store, con, key) is not None:
        raise KeyRunningError(_RUNNING)
    _insert(store, con, key, draft_id)


def _row(store: Store, con: Connection, key: IdempotencyKey, lock: bool = False) -> Row[Any] | None:
    row = con.execute(_FOR_UPDATE if lock else _SELECT, _named(store, key)).one_or_none()
    if row is not None and row.body_sha256 != key.body_sha256:
        raise KeyReusedError(_REUSED)
    return row


def _insert(store: Store, con: Connection, key: IdempotencyKey, draft_id: str | None) -> None:
    named = _named(store, key)
    values = {"owner": named["b_owner"], "key_hmac": named["b_key"], "body_sha256": key.body_sha256}
    try:
        con.execute(_INSERT, {**values, "draft_id": draft_id, "created_at": store.now()})
    except IntegrityError:  # on PostgreSQL: another inserted it between our look and now
        raise KeyRunningError(_RUNNING) from None


def _named(store: Store, key: IdempotencyKey) -> dict[str, str]:
    return {"b_owner": key.owner, "b_key": store.keyed(key.key)}  # a client may put anything into its key
