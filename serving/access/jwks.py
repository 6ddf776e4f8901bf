"""The public keys of an issuer, from a file or a URL of the settings; a token can only name one of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt

from serving.access.fetch import FetchError, fetch_json
from serving.access.issuers import KeySource
from serving.access.refused import RefusedError
from serving.operation.logs import event
from serving.problems import ProblemError

FETCH_AT_MOST_EVERY_SECONDS = 60
FORGET_AFTER_SECONDS = 3600
"""A key that the issuer has withdrawn is not believed longer than this, while the issuer can be reached."""
_SHORTEST_RSA_BITS = 2048
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


class KeySet:
    """The keys of one issuer; thread-safe."""

    def __init__(self, source: KeySource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._keys: list[dict[str, Any]] = []
        self._tried_at = self._read_at = -float("inf")
        self._lock = threading.Lock()

    def find(self, kid: str | None, algorithm: str) -> Any:
        """Return the key that a token names, fit for PyJWT.

        Args:
            kid: None: the only key that fits the algorithm.
            algorithm: one that the settings allow.

        Raises:
            RefusedError: unknown_kid, wrong_key_type or weak_key.
            ProblemError: identity_unavailable, no key was ever to be had.
        """
        with self._lock:
            found = self._named(kid, algorithm)
            if not found or self._clock() - self._read_at > FORGET_AFTER_SECONDS:
                self._read()
                found = self._named(kid, algorithm)
        if len(found) != 1:
            raise RefusedError("unknown_kid")
        return _usable(found[0], algorithm)

    def _named(self, kid: str | None, algorithm: str) -> list[dict[str, Any]]:
        if kid is None:
            return [key for key in self._keys if _fits(key, algorithm)]
        return [key for key in self._keys if key.get("kid") == kid]

    def _read(self) -> None:
        """Read the keys anew, unless that was tried within the minute: a stranger can send any kid."""
        now = self._clock()
        if now - self._tried_at >= FETCH_AT_MOST_EVERY_SECONDS:
            self._tried_at = now
            try:
                self._keys, self._read_at = _keys_of(self._source), now
            except FetchError:
                event("keys_unavailable", level="warning")
        if self._read_at == -float("inf"):
            raise ProblemError("identity_unavailable")


def _keys_of(source: KeySource) -> list[dict[str, Any]]:
    if source.jwks_file is None:
        content = fetch_json(source.jwks_url or "")
    else:
        try:
            content = json.loads(source.jwks_file.read_bytes())
        except (OSError, ValueError):
            raise FetchError from None
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(keys, list):
        raise FetchError
    return [key for key in keys if isinstance(key, dict)]


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Tell whether a key is for this algorithm; symmetric keys (kty oct) are for none."""
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
        return False
    if algorithm[:2] in ("RS", "PS"):
        return key.get("kty") == "RSA"
    return key.get("kty") in ("EC", "OKP") and key.get("crv") == _CURVES[algorithm]


def _usable(key: dict[str, Any], algorithm: str) -> Any:
    if not _fits(key, algorithm):
        raise RefusedError("wrong_key_type")
    try:
        public = jwt.PyJWK({name: key[name] for name in key if name not in ("d", "p", "q")}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise RefusedError("wrong_key_type") from None
    if key["kty"] == "RSA" and public.key_size < _SHORTEST_RSA_BITS:
        raise RefusedError("weak_key")
    return public
