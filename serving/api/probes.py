"""Probes and metrics: no token, nothing of a patient."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from serving.operation import metrics
from serving.problems import ProblemError, declared
from serving.schemas import Health
from serving.service import Ours


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["operation"])
    routes.get("/healthz", summary="The process lives")(live)
    routes.get("/livez", summary="The process lives")(live)
    down = declared("not_ready", "draining", "store_unavailable")
    routes.get("/readyz", summary="Drafts can be made", responses=down)(ready)
    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}
    }
    routes.get("/metrics", summary="Counts", response_class=Response, responses=text)(measured)
    return routes


async def live() -> Health:
    """Answer while the process lives."""
    return Health(status="ok")


async def ready(request: Request, service: Ours) -> Health:
    """Answer 200 once the default model is loaded, while the store answers and the process takes new work."""
    request.app.state.drain.refuse()
    if not service.engines.ready:
        raise ProblemError("not_ready")
    await run_in_threadpool(service.store.check)
    return Health(status="ready")


def measured() -> Response:
    """Return the metrics of all of the service's processes."""
    content, media_type = metrics.exposition()
    return Response(content, media_type=media_type)
