"""Sessions of the page, found by the SHA-256 of the cookie's token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from serving.store.audit import Audit
from serving.store.engine import Store
from serving.store.records import StoredSession
from serving.store.schema import sessions

_VALID = select(sessions).where(
    sessions.c.token_sha256 == bindparam("b_token"), sessions.c.expires_at > bindparam("b_now")
)


class Sessions:
    """The sessions of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._audit = Audit(store)

    def add(
        self, token_sha256: str, principal: dict[str, Any], csrf_sha256: str, expires_at: datetime
    ) -> StoredSession:
        """Begin a session; `principal["id"]` is who the audit trail says signed in."""
        session = StoredSession(token_sha256, principal, csrf_sha256, self._store.now(), expires_at)
        with self._store.transaction() as con:
            con.execute(insert(sessions).values({name: getattr(session, name) for name in StoredSession.__slots__}))
            self._audit.append(con, "session.began", principal["id"], token_sha256[:16])
        return session

    def find(self, token_sha256: str) -> StoredSession | None:
        """Return a session that has not expired."""
        with self._store.reading() as con:
            row = con.execute(_VALID, {"b_token": token_sha256, "b_now": self._store.now()}).mappings().one_or_none()
        return None if row is None else StoredSession(**row)

    def end(self, token_sha256: str) -> bool:
        """End a session; False where there is none."""
        ended = delete(sessions).where(sessions.c.token_sha256 == token_sha256).returning(sessions.c.principal)
        with self._store.transaction() as con:
            principal = con.execute(ended).scalar_one_or_none()
            if principal is not None:
                self._audit.append(con, "session.ended", principal["id"], token_sha256[:16])
        return principal is not None
