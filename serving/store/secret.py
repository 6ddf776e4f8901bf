"""The secret that keys the hashes of ids: $RXDRAFT_SECRET, or 32 random bytes made with the store.

A secret that lies in the store keeps ids from those who see logs and audit trails, not from those who have the
database; set $RXDRAFT_SECRET where the two must be apart.
"""

from __future__ import annotations

import hashlib
import os
import secrets

from sqlalchemy import Connection, insert, select

from etl.errors import ConfigError
from serving.store.schema import store_facts

SHORTEST = 32
"""Characters of $RXDRAFT_SECRET, at least."""


def make_or_read(con: Connection) -> bytes:
    """Return the store's secret, made now if the store is new.

    Raises:
        ConfigError: $RXDRAFT_SECRET is too short, or is not the one this store was made with.
    """
    if _value(con, "secret_check") is None:
        given = _given()
        made = given or secrets.token_bytes(32)
        kept = [] if given else [{"name": "secret", "value": made.hex()}]
        con.execute(insert(store_facts), [*kept, {"name": "secret_check", "value": _check_of(made)}])
    return read(con)


def read(con: Connection) -> bytes:
    """Return the secret of a store that has one.

    Raises:
        ConfigError: as for `make_or_read`.
    """
    kept = _value(con, "secret")
    secret = _given() or bytes.fromhex(kept or "")
    if _check_of(secret) != _value(con, "secret_check"):
        found = "is not the one" if secret else "is not set; set it to the one"
        way_out = "; unset it" if kept else ""
        raise ConfigError(f"RXDRAFT_SECRET {found} that this store was made with{way_out}")
    return secret


def _given() -> bytes | None:
    text = os.environ.get("RXDRAFT_SECRET", "")
    if text and len(text) < SHORTEST:
        raise ConfigError(f"RXDRAFT_SECRET has {len(text)} characters, wanted at least {SHORTEST} random ones")
    return hashlib.sha256(text.encode()).digest() if text else None


def _check_of(secret: bytes) -> str:
    """Return what tells two secrets apart and does not help to find one."""
    return hashlib.sha256(b"rxdraft secret check" + secret).hexdigest()[:16]


def _value(con: Connection, name: str) -> str | None:
    return con.execute(select(store_facts.c.value).where(store_facts.c.name == name)).scalar()
