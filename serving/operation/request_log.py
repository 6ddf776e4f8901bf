"""One line and one count for each answer: route template, method, status, time; uvicorn's access log stays off."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.operation import metrics
from serving.operation.logs import event
from serving.operation.request_id import begin

_QUIET = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestLog:
    """Give each request its id, and tell how it ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and write its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, head_after = time.monotonic(), 500, None
        begin(Headers(scope=scope).get("x-request-id"))

        async def watch(message: Message) -> None:
            nonlocal status, head_after
            if message["type"] == "http.response.start":
                status, head_after = message["status"], time.monotonic() - began
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            took = time.monotonic() - began
            _tell(route_template(scope), scope["method"], status, took, head_after or took)


def _tell(route: str, method: str, status: int, took: float, head_after: float) -> None:
    method, level = known_method(method), "debug" if route in _QUIET else "info"
    metrics.answered(route, method, status, head_after)
    event("answered", level=level, route=route, method=method, status=status, milliseconds=round(took * 1000, 1))


def route_template(scope: Scope) -> str:
    """Return the path as the route declares it; "unmatched" where there is none, since a path is the caller's text."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"


def known_method(method: str) -> str:
    """Return a method, or "other" for a word of the caller's own."""
    return method if method in _METHODS else "other"
