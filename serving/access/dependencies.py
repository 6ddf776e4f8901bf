"""What routes depend on: `Depends(require(Scope.DRAFT))`, and `current` for pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from serving.access.csrf import DEV, check_csrf
from serving.access.hosts import is_this_machine
from serving.access.keys import looks_like_key, principal_of_key
from serving.access.limits import refuse_over
from serving.access.principal import Principal, Role, Scope
from serving.access.refused import RefusedError
from serving.access.sessions import session_principal
from serving.access.state import Access, access_of
from serving.problems import ProblemError

DEV_PRINCIPAL = Principal("dev", "dev", frozenset({Role.CLINICIAN}), csrf=DEV)

# For the schema only: `authenticate` reads the headers itself.
_BEARER = Security(HTTPBearer(auto_error=False, description="An API key, or a token of the identity provider."))
_COOKIE = Security(APIKeyCookie(name="rxdraft", auto_error=False, description="The page's session; see /session."))


def require(*scopes: Scope) -> Callable[..., Principal]:
    """Return a dependency that gives the caller's Principal, for `Depends`.

    Bearer key or token, or session cookie with CSRF header; "dev" on loopback with settings.dev.

    Raises:
        ProblemError: 401 unauthenticated, 403 forbidden or csrf, 429 rate_limited; raised by the dependency.
    """

    def allowed(request: Request, _bearer: Annotated[Any, _BEARER], _cookie: Annotated[Any, _COOKIE]) -> Principal:
        access = access_of(request)
        try:
            principal = authenticate(request, access)
        except RefusedError as refused:
            raise access.refusal(request, refused) from None
        if principal is None:
            raise access.refusal(request, RefusedError("nobody"))
        refuse_over(access.calls.hit(principal.id))
        check_csrf(request, principal, access.settings)
        if not all(map(principal.may, scopes)):
            raise ProblemError("forbidden")
        return principal

    return allowed


def current(request: Request) -> Principal | None:
    """Return who asks, None if nobody is signed in; reads the store, so call it in a thread or as a dependency."""
    try:
        return authenticate(request, access_of(request))
    except RefusedError:
        return None


def authenticate(request: Request, access: Access) -> Principal | None:
    """Return who asks; None: they show nothing.

    Raises:
        RefusedError: what they show does not hold.
    """
    given = request.headers.getlist("authorization")
    if given:
        return _with_header(given, access)
    dev = access.settings.dev and is_this_machine(request.scope)
    try:
        principal = session_principal(request, access.store, access.settings)
    except RefusedError:
        if not dev:  # browsers send cookies to every port of loopback, so this one may be of another service
            raise
        principal = None
    return DEV_PRINCIPAL if dev and principal is None else principal


def _with_header(given: list[str], access: Access) -> Principal:
    token = bearer_token(given)
    return principal_of_key(access.keys, token) if looks_like_key(token) else access.bearer.principal(token)


def bearer_token(given: list[str]) -> str:
    """Return the token of the one Authorization header.

    Raises:
        RefusedError: not_bearer, also where there are several.
    """
    scheme, _, token = given[0].partition(" ")
    if len(given) != 1 or scheme.lower() != "bearer" or not token.strip():
        raise RefusedError("not_bearer")
    return token.strip()
