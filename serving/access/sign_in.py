"""Sign-in by an identity provider: authorization code with PKCE (OpenID Connect Core 3.1, RFC 7636, RFC 9700).

State, nonce and verifier travel in a cookie of ten minutes that this service has signed; nothing is kept in between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from serving.access.fetch import FetchError, fetch_json
from serving.access.issuers import OidcProvider
from serving.access.principal import Principal
from serving.access.refused import RefusedError
from serving.access.sessions import begin_session
from serving.access.state import Access, access_of
from serving.problems import ProblemError, declared
from serving.settings import Settings

SECONDS = 600
"""From leaving for the provider to coming back."""

router = APIRouter(prefix="/session", tags=["session"])

# A redirect would still be the provider's navigation, for which browsers hold a SameSite=Strict cookie back.
_ONWARD = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>rxdraft</title>'


@router.get(
    "/oidc/{provider}", summary="Go to the identity provider", response_class=RedirectResponse, status_code=303,
    responses=declared("not_found", "invalid"),
)  # fmt: skip
def leave(request: Request, provider: int) -> Response:
    """Send the browser to the provider's sign-in page.

    Args:
        request: of the browser.
        provider: its place in settings.oidc, from 0.
    """
    access = access_of(request)
    known, flow = _provider(access.settings, provider), _new_flow(provider)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(flow["verifier"].encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": known.client_id,
        "redirect_uri": _redirect_uri(access.settings),
        "scope": known.request_scopes,
        "state": flow["state"],
        "nonce": flow["nonce"],
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    answer = RedirectResponse(f"{known.authorize_url}?{urlencode(asked)}", 303)
    answer.set_cookie(
        _cookie_name(access.settings),
        _signed(flow, access),
        max_age=SECONDS,
        secure=access.settings.secure,
        httponly=True,
        samesite="lax",  # it must come along when the provider sends the browser back
    )
    return answer


@router.get("/callback", summary="Come back from it", response_class=HTMLResponse, responses=declared("invalid"))
def come_back(
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Exchange the provider's code for an ID token, and open a session; else go back to the sign-in page."""
    access = access_of(request)
    access.slow_down(request)
    try:
        principal = _exchanged(access, _flow(request, access), state, code, iss)
    except (RefusedError, FetchError, ProblemError) as error:
        refused = error if isinstance(error, RefusedError) else RefusedError("provider_unavailable")
        return _back_to_sign_in(request, access, refused)
    answer = HTMLResponse(_ONWARD)
    begin_session(request, answer, access.store, access.settings, principal)
    answer.delete_cookie(_cookie_name(access.settings), secure=access.settings.secure, httponly=True)
    return answer


def _exchanged(access: Access, flow: dict[str, Any], state: str, code: str, iss: str | None) -> Principal:
    provider = _provider(access.settings, flow["provider"])
    if not hmac.compare_digest(flow["state"].encode(), state.encode()):
        raise RefusedError("wrong_state")
    if iss is not None and iss != provider.issuer:
        raise RefusedError("wrong_issuer")  # RFC 9207
    if not code:
        raise RefusedError("no_code")
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": _redirect_uri(access.settings),
        "client_id": provider.client_id or "",
        "code_verifier": flow["verifier"],
    }
    if secret := os.environ.get("RXDRAFT_OIDC_CLIENT_SECRET"):
        form["client_secret"] = secret
    token = fetch_json(provider.token_url or "", form).get("id_token")
    if not isinstance(token, str):
        raise RefusedError("no_id_token")
    return access.bearer.signed_in(token, provider, flow["nonce"])


def _back_to_sign_in(request: Request, access: Access, refused: RefusedError) -> Response:
    told = access.failed_sign_in(request, refused)
    return RedirectResponse(f"/sign-in?failed={'role' if refused.reason == 'no_role' else 'oidc'}", 303, told.headers())


def _provider(settings: Settings, place: int) -> OidcProvider:
    if not 0 <= place < len(settings.oidc) or settings.oidc[place].client_id is None:
        raise ProblemError("not_found")
    return settings.oidc[place]


def _redirect_uri(settings: Settings) -> str:
    return f"{settings.public_url}/session/callback"


def _cookie_name(settings: Settings) -> str:
    return "__Host-rxdraft-oidc" if settings.secure else "rxdraft-oidc"


def _new_flow(provider: int) -> dict[str, Any]:
    made = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    return {"provider": provider, "until": int(time.time()) + SECONDS, **made}


def _signed(flow: dict[str, Any], access: Access) -> str:
    text = base64.urlsafe_b64encode(json.dumps(flow).encode()).decode()
    return f"{text}.{access.store.keyed(f'oidc flow {text}')}"


def _flow(request: Request, access: Access) -> dict[str, Any]:
    """Return what was begun in this browser.

    Raises:
        RefusedError: no_flow: nothing was, or not by us, or too long ago.
    """
    text, _, signature = request.cookies.get(_cookie_name(access.settings), "").partition(".")
    if not hmac.compare_digest(signature.encode(), access.store.keyed(f"oidc flow {text}").encode()):
        raise RefusedError("no_flow")
    flow: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text))
    if flow["until"] < time.time():
        raise RefusedError("no_flow")
    return flow
