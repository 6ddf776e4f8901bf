"""What `create_app` calls to surround its routes."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serving.access.hosts import HostGuard
from serving.operation.body_limit import BodyLimit
from serving.operation.drain import Drain
from serving.operation.headers import SecurityHeaders
from serving.operation.request_log import RequestLog
from serving.operation.scrub import Scrub
from serving.operation.tracing import Tracing, exporting_tracer
from serving.problems import add_problem_handlers
from serving.settings import Settings


def setup_operation(app: FastAPI, settings: Settings) -> None:
    """Add error handlers and middleware, innermost first, and a `Drain` at app.state.drain.

    Every answer is logged and has its headers, even one to a preflight call; CORS surrounds Scrub, so that a browser
    of another origin may read a 500 too.
    """
    app.state.drain = Drain()
    add_problem_handlers(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(HostGuard, settings=settings)
    app.add_middleware(Scrub)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type"),
            max_age=600,
        )
    app.add_middleware(SecurityHeaders, secure=settings.secure)
    if settings.tracing:
        app.add_middleware(Tracing, tracer=exporting_tracer())
    app.add_middleware(RequestLog)
