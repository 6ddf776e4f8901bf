"""/session: sign in with a key, see who one is, sign out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.access.csrf import is_foreign
from serving.access.dependencies import require
from serving.access.keys import principal_of_key
from serving.access.principal import Principal, Role
from serving.access.refused import RefusedError
from serving.access.sessions import begin_session, end_session
from serving.access.state import access_of
from serving.problems import ProblemError, declared

router = APIRouter(prefix="/session", tags=["session"])


class SignIn(BaseModel):
    """An API key, to be exchanged for a cookie."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str = Field(min_length=1, max_length=200)


class Session(BaseModel):
    """Who is signed in."""

    name: str
    roles: list[Role]
    csrf: str
    """What unsafe calls of this session carry as X-CSRF-Token."""


_POSTED = ("csrf", "unauthenticated", "unreadable", "too_large", "not_json", "invalid", "rate_limited")


@router.post("", status_code=204, summary="Sign in with an API key", responses=declared(*_POSTED))
def sign_in(request: Request, body: SignIn) -> Response:
    """Exchange a key for a session."""
    access, response = access_of(request), Response(status_code=204)
    if is_foreign(request, access.settings):
        raise ProblemError("csrf")
    try:
        principal = principal_of_key(access.keys, body.key.strip())
    except RefusedError as refused:
        raise access.failed_sign_in(request, refused) from None
    begin_session(request, response, access.store, access.settings, principal)
    return response


@router.get("", summary="Who is signed in", responses=declared("unauthenticated", "rate_limited"))
def who(principal: Annotated[Principal, Depends(require())]) -> Session:
    """Tell a page what it needs to make calls."""
    return Session(name=principal.name, roles=sorted(principal.roles), csrf=principal.csrf or "")


@router.delete("", status_code=204, summary="Sign out", responses=declared("unauthenticated", "csrf", "rate_limited"))
def sign_out(request: Request, principal: Annotated[Principal, Depends(require())]) -> Response:
    """End the session."""
    access, response = access_of(request), Response(status_code=204)
    end_session(request, response, access.store, access.settings)
    return response
