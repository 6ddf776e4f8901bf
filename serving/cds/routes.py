"""The routes below /cds-services; discovery answers while the model is still loading."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from serving.access.cds_tokens import cds_caller
from serving.access.principal import Principal
from serving.cds.cards import CardWriter
from serving.cds.discovery import SERVICES, discovery
from serving.cds.feedback import to_records
from serving.cds.hooks import answer
from serving.cds.models import Call, Cards, Discovery, Feedback
from serving.cds.words import words
from serving.fhir.models import OperationOutcome
from serving.operation.logs import event
from serving.problems import ProblemError
from serving.service import Service, service_of
from serving.store.cds import Cds

_STATUSES = {
    400: "The body is no JSON, or for another hook",
    401: "No token that works",
    403: "This caller may not call this service",
    404: "There is no such service",
    412: "Required prefetch is missing",
    413: "The body is too large",
    415: "The body's content type is not JSON",
    422: "The body does not fit the schema",
    429: "Too many calls",
    500: "Something went wrong here",
    503: "Try again later",
}


def _declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _STATUSES[status], "model": OperationOutcome} for status in statuses}


async def _any_caller(request: Request) -> Principal:
    return await run_in_threadpool(cds_caller, request, None)


async def _caller(request: Request, service_id: str) -> Principal:
    if service_id not in SERVICES:
        raise ProblemError("not_found")
    return await run_in_threadpool(cds_caller, request, service_id)


Running = Annotated[Service, Depends(service_of)]
Caller = Annotated[Principal, Depends(_caller)]


def router() -> APIRouter:
    """Return discovery, the services and their feedback; they work on `app.state.service`."""
    routes = APIRouter(prefix="/cds-services", tags=["CDS Hooks"])
    routes.get(
        "", summary="The services, as CDS Hooks discovery", response_model=Discovery, responses=_declared(401, 429, 500)
    )(discover)
    routes.post(
        "/{service_id}",
        summary="Call a service when its hook fires",
        response_model=Cards,
        responses=_declared(400, 401, 403, 404, 412, 413, 415, 422, 429, 500, 503),
    )(call_service)
    routes.post(
        "/{service_id}/feedback",
        summary="Tell what became of cards",
        responses=_declared(400, 401, 403, 404, 413, 415, 422, 429, 500, 503),
    )(give_feedback)
    return routes


async def discover(caller: Annotated[Principal, Depends(_any_caller)]) -> JSONResponse:
    """Tell which services there are."""
    return JSONResponse(discovery().to_json())


async def call_service(
    service_id: str,
    caller: Caller,
    service: Running,
    body: Call,
    accept_language: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Answer with cards; no advice is an empty list."""
    say = words(accept_language, service.settings.language)
    cards = await answer(service, service_id, body, caller, CardWriter(service.settings.public_url, say))
    event("cards", service=service_id, count=len(cards.cards))
    return JSONResponse(cards.to_json())


async def give_feedback(service_id: str, caller: Caller, service: Running, body: Feedback) -> dict[str, str]:
    """Store it; cards that nobody was shown are counted and not told of, so that ids cannot be probed."""
    records = to_records(body, caller.id, service_id)
    stored, unknown = await run_in_threadpool(Cds(service.store).add_feedback, records)
    event("feedback", service=service_id, count=stored, dropped=unknown)
    return {}
