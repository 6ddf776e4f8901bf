"""Calls that change something must come from this service's own page, not from one that merely has its cookie."""

from __future__ import annotations

import hmac

from fastapi import Request

from serving.access.addresses import is_loopback
from serving.access.principal import Principal
from serving.problems import ProblemError
from serving.settings import Settings

HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEV = "dev"
"""The dev principal's token, which is not asked for: without a cookie, the origin is all there is to check."""


def check_csrf(request: Request, principal: Principal, settings: Settings) -> None:
    """Let pass what needs no check (safe methods, keys and tokens in a header) or stands it.

    Raises:
        ProblemError: 403 csrf.
    """
    if request.method in SAFE_METHODS or principal.csrf is None:
        return
    given = request.headers.get(HEADER, "")
    fits = principal.csrf == DEV or hmac.compare_digest(given.encode(), principal.csrf.encode())
    if not fits or is_foreign(request, settings):
        raise ProblemError("csrf")


def is_foreign(request: Request, settings: Settings) -> bool:
    """Tell whether a browser says that another site's page makes this call."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    ours = {settings.origin}
    if is_loopback(settings.hostname):  # which has many names, and a forwarded port perhaps
        ours.add(f"{request.url.scheme}://{request.headers.get('host')}")
    return request.headers.get("origin", settings.origin) not in ours
