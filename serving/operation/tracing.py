"""OpenTelemetry spans, if the settings ask for them: route template, status and time; no URL, no body, no message.

FastAPI's own telemetry is off: its spans carry the path and the query, and its processors could read bodies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etl.errors import ConfigError
from serving.operation.request_id import request_id
from serving.operation.request_log import known_method, route_template

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def exporting_tracer() -> Tracer:
    """Return a tracer that sends spans to OTEL_EXPORTER_OTLP_ENDPOINT, in batches, from a thread.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found,unused-ignore]
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError("tracing needs OpenTelemetry; pip install 'rxdraft[otel]', or set tracing = false") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "rxdraft"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("rxdraft")


class Tracing:
    """One span a request, a child of the caller's where it names one."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on within a span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        offered = Headers(scope=scope).get("traceparent", "")
        carrier = {"traceparent": offered} if _TRACEPARENT.fullmatch(offered) else {}  # tracestate is free text
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.start_as_current_span(
            "request",
            TraceContextTextMapPropagator().extract(carrier),
            SpanKind.SERVER,
            record_exception=False,  # they quote messages
            set_status_on_exception=False,
        ) as span:
            try:
                await self._app(scope, receive, watch)
            finally:
                method, route = known_method(scope["method"]), route_template(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                span.set_attribute("rxdraft.request_id", request_id() or "")
