"""API keys, `rxd_<id>_<secret>`: the id finds the row, the secret's SHA-256 is all that is kept.

A plain hash is enough, since the secret is 256 random bits and no password: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from serving.access.principal import Principal, Role, Scope
from serving.access.refused import RefusedError
from serving.store.errors import StoreError
from serving.store.keys import Keys
from serving.store.records import NewKey, StoredKey

_USED_EVERY = timedelta(minutes=1)
_KEY = re.compile(r"rxd_([0-9a-f]{12})_([0-9a-f]{64})")


def make_key(
    name: str, roles: Collection[Role], only: Collection[Scope] = (), expires_at: datetime | None = None
) -> tuple[str, NewKey]:
    """Return a new key as its holder gets it, once, and as the store keeps it.

    Args:
        name: whose it is, for `rxdraft keys list`.
        roles: what it may do.
        only: holds it to these scopes of its roles; empty: to all of them.
        expires_at: None: never.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    kept = NewKey(key_id, name, sha256(secret), tuple(sorted(roles)), tuple(sorted(only)), expires_at)
    return f"rxd_{key_id}_{secret}", kept


def looks_like_key(text: str) -> bool:
    """Tell a key from a token of an identity provider."""
    return text.startswith("rxd_")


def principal_of_key(keys: Keys, text: str) -> Principal:
    """Return who holds this key.

    Raises:
        RefusedError: malformed_key, unknown_key, wrong_secret, revoked_key or expired_key.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise RefusedError("malformed_key")
    stored = keys.find(match[1])
    if stored is None:
        raise RefusedError("unknown_key")
    if not hmac.compare_digest(sha256(match[2]), stored.secret_sha256):
        raise RefusedError("wrong_secret")
    principal = _principal(stored)
    if stored.last_used_at is None or datetime.now(UTC) - stored.last_used_at > _USED_EVERY:
        with suppress(StoreError):  # a full disk must not keep readers out
            keys.used(stored.key_id)
    return principal


def principal_of_key_id(keys: Keys, key_id: str) -> Principal:
    """Return who a key belongs to that was shown before, if it still holds.

    Raises:
        RefusedError: unknown_key, revoked_key or expired_key.
    """
    stored = keys.find(key_id)
    if stored is None:
        raise RefusedError("unknown_key")
    return _principal(stored)


def _principal(stored: StoredKey) -> Principal:
    if stored.revoked_at is not None:
        raise RefusedError("revoked_key")
    if stored.expires_at is not None and stored.expires_at <= datetime.now(UTC):
        raise RefusedError("expired_key")
    only = frozenset(map(Scope, stored.scopes)) or None
    return Principal(f"key:{stored.key_id}", stored.name, frozenset(map(Role, stored.roles)), only=only)


def sha256(text: str) -> str:
    """Return the digest of a secret, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
