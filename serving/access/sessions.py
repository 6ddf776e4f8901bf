"""A browser's session: a random token in a cookie, its SHA-256 in the store."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import Request, Response

from serving.access.keys import principal_of_key_id, sha256
from serving.access.principal import Principal, Role, Scope
from serving.access.refused import RefusedError
from serving.settings import Settings
from serving.store.engine import Store
from serving.store.keys import Keys
from serving.store.sessions import Sessions


def cookie_name(settings: Settings) -> str:
    """Return the cookie's name; over https, browsers hold __Host- cookies to this very host."""
    return "__Host-rxdraft" if settings.secure else "rxdraft"


def begin_session(request: Request, response: Response, store: Store, settings: Settings, principal: Principal) -> None:
    """Open a session, never under a token that the browser brings, end the one before it, and give its cookie."""
    if before := request.cookies.get(cookie_name(settings)):
        Sessions(store).end(sha256(before))
    token, lasts = secrets.token_urlsafe(32), timedelta(hours=settings.session_hours)
    expires_at = datetime.now(UTC) + lasts
    Sessions(store).add(sha256(token), _as_json(principal), sha256(_csrf(store, token)), expires_at)
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=int(lasts.total_seconds()),
        secure=settings.secure,
        httponly=True,
        samesite="strict",
    )


def session_principal(request: Request, store: Store, settings: Settings) -> Principal | None:
    """Return who is signed in; None without a cookie.

    Raises:
        RefusedError: unknown_session, an expired one too, or its key no longer holds.
    """
    token = request.cookies.get(cookie_name(settings))
    if token is None:
        return None
    stored = Sessions(store).find(sha256(token))
    if stored is None:
        raise RefusedError("unknown_session")
    principal, csrf = _from_json(stored.principal), _csrf(store, token)
    if not hmac.compare_digest(sha256(csrf), stored.csrf_sha256):
        raise RefusedError("unknown_session")
    kind, _, key_id = principal.id.partition(":")
    if kind == "key":
        principal = principal_of_key_id(Keys(store), key_id)  # a revoked key takes its sessions along
    return replace(principal, csrf=csrf)


def end_session(request: Request, response: Response, store: Store, settings: Settings) -> None:
    """Close the session, take the cookie away, and let the browser forget what pages kept."""
    if token := request.cookies.get(cookie_name(settings)):
        Sessions(store).end(sha256(token))
    response.delete_cookie(cookie_name(settings), secure=settings.secure, httponly=True, samesite="strict")
    response.headers["Clear-Site-Data"] = '"storage"'


def _csrf(store: Store, token: str) -> str:
    """Return the session's CSRF token: it follows from the cookie, so that a page can ask for it again."""
    return hmac.new(store.secret, f"csrf {token}".encode(), hashlib.sha256).hexdigest()


def _as_json(principal: Principal) -> dict[str, Any]:
    return {
        "id": principal.id,
        "name": principal.name,
        "roles": sorted(principal.roles),
        "only": None if principal.only is None else sorted(principal.only),
    }


def _from_json(kept: dict[str, Any]) -> Principal:
    only = None if kept["only"] is None else frozenset(map(Scope, kept["only"]))
    return Principal(kept["id"], kept["name"], frozenset(map(Role, kept["roles"])), only=only)
