"""The HTTP service: drafts over JSON, probes, and errors that repeat nothing of what was sent."""

from __future__ import annotations

import logging
import threading
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etl.prompts import TooLongError
from serving.explain import explain_in_time
from serving.recommendation import BusyError, Drafter, LateError
from serving.schemas import Draft, DraftRequest, describe_errors, make_draft

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
DEADLINE_SECONDS = 60
"""For a draft and its explanation, from when they are asked for."""

_TITLES = {
    400: "The body cannot be read",
    404: "Not found",
    405: "Method not allowed",
    413: f"The body is over {MAX_BODY_BYTES} bytes",
}

_NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(load: Callable[[], Drafter]) -> FastAPI:
    """Build the service around a recommender that is loaded after the port is open.

    Args:
        load: called once, in a thread; until it returns, /readyz and drafts answer 503.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.recommender = None
        # A daemon, so that a process told to stop while it loads does stop.
        threading.Thread(target=_load, args=(app, load), daemon=True).start()
        yield

    # The interactive docs would load scripts from other hosts; the schema itself is at /openapi.json.
    app = FastAPI(
        title="rxdraft",
        description="Draft prescription lists for clinicians to review. Not for use without review.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the query
        max_body_size=MAX_BODY_BYTES,
        telemetry=_NO_TELEMETRY,
    )
    app.add_middleware(Scrub)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.get("/healthz", summary="The process lives")(healthz)
    app.get("/readyz", summary="The model is loaded")(readyz)
    app.post("/v1/drafts", summary="Draft a list for one admission", response_model=Draft)(create_draft)
    return app


async def healthz() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "ok"}


async def readyz(request: Request) -> Response:
    """Answer 200 once drafts can be made."""
    if request.app.state.recommender is None:
        return _not_ready()
    return JSONResponse({"status": "ready"})


async def create_draft(request: Request, body: DraftRequest) -> Any:
    """Draft a list for one admission."""
    recommender: Drafter | None = request.app.state.recommender
    if recommender is None:
        return _not_ready()
    admission, asked = body.to_admission(recommender.vocabulary), time.monotonic()
    try:
        recommendation = await recommender.draft(admission, DEADLINE_SECONDS)
    except BusyError:
        return _again("Too many drafts are asked for", 1)
    except LateError:
        return problem(504, "The draft was not done in time")
    except TooLongError:
        return problem(422, "The drugs alone are more than the model's prompt holds; give fewer")
    explanation = None
    if body.explain:
        left = DEADLINE_SECONDS - (time.monotonic() - asked)
        explanation = await explain_in_time(recommender, admission, recommendation, left)
    draft = make_draft(str(uuid.uuid4()), admission, recommendation, recommender, explanation)
    log.info("draft %s: %s, %d drugs", draft.draft_id, draft.answer.outcome, len(draft.drugs))
    return draft


def problem(status: int, title: str, **members: Any) -> JSONResponse:
    """Return an RFC 9457 problem; nothing of the request goes into it."""
    content = {"type": "about:blank", "status": status, "title": title, **members}
    return JSONResponse(content, status, media_type="application/problem+json")


def _not_ready() -> JSONResponse:
    return _again("The model is still loading", 5)


def _again(why: str, seconds: int) -> JSONResponse:
    response = problem(503, why)
    response.headers["Retry-After"] = str(seconds)
    return response


def _load(app: FastAPI, load: Callable[[], Drafter]) -> None:
    try:
        app.state.recommender = load()
    except Exception as error:
        log.info("the model could not be loaded: %s", type(error).__name__)  # whoever gave `load` tells why
        return
    log.info("ready")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return problem(422, "The request does not fit the schema", errors=describe_errors(error.errors()))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    response = problem(error.status_code, _TITLES.get(error.status_code, "Error"))
    response.headers.update(error.headers or {})
    return response


class Scrub:
    """Turn an unforeseen exception into a bare 500, and log where it happened but not what it said.

    A message or a traceback can quote what was sent, and uvicorn would print both.
    """

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
            if type(error).__name__ == "_RequestBodyLimitResponseSent":
                raise  # Starlette's own sign that it has answered 413
            frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]]
            log.error("unforeseen %s at %s", type(error).__name__, " < ".join(reversed(frames)))
            if not started:
                await problem(500, "Something went wrong here")(scope, receive, send)
