"""Which Host this service answers to, so that a name that somebody points here leads nowhere (DNS rebinding)."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.addresses import is_loopback
from serving.problems import ProblemError, problem
from serving.settings import Settings

_PROBES = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
"""Balancers and Prometheus call a machine by its address."""

_FORWARDED = ("forwarded", "via", "x-real-ip")
"""Of proxies, beside all that begins with x-forwarded-."""


class HostGuard:
    """Answer to the host of settings.public_url, and to loopback where that is loopback; probes to any."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is meant for this service."""
        if scope["type"] == "http" and scope["path"] not in _PROBES and not self._is_meant(scope):
            await problem(scope["path"], ProblemError("foreign_host"))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_meant(self, scope: Scope) -> bool:
        given = Headers(scope=scope).getlist("host")
        if len(given) != 1:
            return False
        host = host_name(given[0])
        return host == self._settings.hostname or (is_loopback(self._settings.hostname) and is_loopback(host))


def host_name(header: str) -> str:
    """Return a Host header's host, without a port and in lower case.

    >>> host_name("RX.example.org:8443"), host_name("[::1]:8000"), host_name("::1")
    ('rx.example.org', '::1', '')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    name, _, port = header.partition(":")
    return name.lower() if port.isdigit() or not port else ""


def is_this_machine(scope: Scope) -> bool:
    """Tell whether a call comes from this machine itself, by peer and Host, and by no proxy on it."""
    headers, client = Headers(scope=scope), scope.get("client")
    from_here = client is not None and is_loopback(client[0])
    return (
        from_here
        and is_loopback(host_name(headers.get("host", "")))
        and not any(name in _FORWARDED or name.startswith("x-forwarded-") for name in headers)
    )
