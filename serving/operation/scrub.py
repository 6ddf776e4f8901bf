"""An unforeseen exception becomes a bare 500; where it happened is logged, what it said is not."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.operation.logs import event, where
from serving.problems import ProblemError, problem


class Scrub:
    """Answer where nobody else did: a message or a traceback can quote what was sent, and uvicorn would print both."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer it where nobody else did."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            event("unforeseen", level="error", **where(error))
            if started:
                raise Broken from None  # half an answer must not look whole: uvicorn closes the connection
            await problem(scope["path"], ProblemError("internal_error"))(scope, receive, send)


class Broken(Exception):  # noqa: N818
    """An answer broke off after its head was sent."""
