"""How large a body may be: enough for a patient's facts, more below /cds-services, where prefetch comes along."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import ProblemError, problem

MAX_BODY_BYTES = 256 * 1024
MAX_CDS_BODY_BYTES = 2 * 1024 * 1024

_THROWN_AWAY_BYTES = 8 * 1024 * 1024
_THROWN_AWAY_SECONDS = 5


class BodyLimit:
    """Refuse a body by its declared length at once, one that has none while it is read, and one that has two lengths.

    h11 takes the chunks where a request has both, a proxy before it perhaps the length (RFC 9112, 6.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is small enough."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MAX_CDS_BODY_BYTES if scope["path"].startswith("/cds-services") else MAX_BODY_BYTES
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            await _end(scope, receive, send, "ambiguous_length")
            return
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > most:
            if "expect" not in headers:  # who waits for a go-ahead has not sent it yet
                await _throw_away(receive)
            await _end(scope, receive, send, "too_large")
            return
        await self._app(scope, _counting(receive, most), send)


def _counting(receive: Receive, most: int) -> Receive:
    """Return a receive that ends a body of more bytes."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            if message.get("more_body"):
                await _throw_away(receive)
            raise HTTPException(413)  # FastAPI lets this one through while it reads a body
        return message

    return counted


async def _throw_away(receive: Receive) -> None:
    """Read on for a while: a client that is still sending would see a broken connection and not the answer."""
    read, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_THROWN_AWAY_SECONDS):
            while more and read <= _THROWN_AWAY_BYTES:
                message = await receive()
                read, more = read + len(message.get("body", b"")), message.get("more_body", False)


async def _end(scope: Scope, receive: Receive, send: Send, code: str) -> None:
    """Answer, and close the connection: what follows the head must not be read as another request."""
    answer = problem(scope["path"], ProblemError(code))
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)
