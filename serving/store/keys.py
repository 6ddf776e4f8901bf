"""API keys: what they may do and until when; of the secret part only its SHA-256."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, bindparam, insert, or_, select, update

from serving.store.audit import Audit
from serving.store.engine import Store
from serving.store.records import NewKey, StoredKey
from serving.store.schema import api_keys

_USED_EVERY = timedelta(minutes=1)
_FIND = select(api_keys).where(api_keys.c.key_id == bindparam("b_id"))


class Keys:
    """The API keys of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._audit = Audit(store)
        self._used: dict[str, datetime] = {}  # by this process

    def add(self, key: NewKey, actor: str = "command") -> StoredKey:
        """Store a new key."""
        created = {**asdict(key), "created_at": self._store.now()}
        with self._store.transaction() as con:
            con.execute(insert(api_keys).values(**created))
            self._audit.append(con, "key.added", actor, key.key_id, roles=list(key.roles))
        return StoredKey(**created)

    def find(self, key_id: str) -> StoredKey | None:
        """Return a key, revoked and expired ones too, None where no key has this id."""
        with self._store.reading() as con:
            row = con.execute(_FIND, {"b_id": key_id}).mappings().one_or_none()
        return None if row is None else _key(row)

    def all(self) -> list[StoredKey]:
        """Return every key, the oldest first."""
        with self._store.reading() as con:
            return [_key(row) for row in con.execute(select(api_keys).order_by(api_keys.c.created_at)).mappings()]

    def revoke(self, key_id: str, actor: str = "command") -> bool:
        """End a key now; False where there is none, or it was revoked before."""
        standing = (api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        with self._store.transaction() as con:
            ended = con.execute(update(api_keys).where(*standing).values(revoked_at=self._store.now())).rowcount
            if ended:
                self._audit.append(con, "key.revoked", actor, key_id)
        return bool(ended)

    def used(self, key_id: str) -> None:
        """Note that a key was used; once a minute, as not every call should be a write."""
        now = self._store.now()
        noted = self._used.get(key_id)
        if noted is not None and now - noted < _USED_EVERY:
            return
        self._used[key_id] = now
        stale = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < now - _USED_EVERY)
        with self._store.transaction(durable=False) as con:
            con.execute(update(api_keys).where(api_keys.c.key_id == key_id, stale).values(last_used_at=now))


def _key(row: RowMapping) -> StoredKey:
    values: dict[str, Any] = {**row, "roles": tuple(row["roles"]), "scopes": tuple(row["scopes"])}
    return StoredKey(**values)
