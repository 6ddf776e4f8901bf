"""The routes of drafts: make or queue, read, cancel, review, finalize, export."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from serving.access.dependencies import require
from serving.access.limits import limit_drafts
from serving.access.principal import Principal, Scope
from serving.api.parameters import EACH_ONCE
from serving.api.responses import problems
from serving.drafting.export import File, exported
from serving.schemas import Draft, DraftRequest, Drafts, FinalizeRequest, ReviewRequest
from serving.service import Ours

Caller = Annotated[Principal, Depends(require(Scope.DRAFT))]
Reader = Annotated[Principal, Depends(require(Scope.READ))]
DraftId = Annotated[str, Path(min_length=1, max_length=64)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
"""Sent again with the same body, a call is not done twice."""

_KEYS = ("key_reused", "key_running")
_CHANGES = (*_KEYS, "not_found", "version_conflict", "finalised", "draft_not_ready")


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/drafts", tags=["drafts"], dependencies=[EACH_ONCE])
    without = ("busy", "not_ready", "draining", "engine_unavailable", "drafting_off", "late")
    made = problems(*_KEYS, "not_found", "too_long", *without)
    queued: dict[int | str, dict[str, Any]] = {202: {"model": Draft, "description": "Queued; see Location."}}
    routes.post("", summary="Draft a list for one admission", response_model=Draft, responses=made | queued)(create)
    routes.get("", summary="One's own drafts, the newest first", responses=problems())(read_all)
    routes.get("/{draft_id}", summary="A draft as it reads now", responses=problems("not_found"))(read)
    routes.post(
        "/{draft_id}/cancel", summary="Take back a draft that is not made yet", responses=problems("not_found")
    )(cancel)
    routes.post(
        "/{draft_id}/reviews", summary="Decide about one drug", responses=problems(*_CHANGES, "reason_required")
    )(review)
    routes.post("/{draft_id}/finalize", summary="Freeze a decided draft", responses=problems(*_CHANGES, "undecided"))(
        finalize
    )
    routes.get(
        "/{draft_id}/export",
        summary="A draft to take along",
        response_class=Response,
        responses=problems("not_found", "draft_not_ready") | {200: _EXPORTS},
    )(export)
    routes.get(
        "/{draft_id}/fhir",
        summary="A draft as a FHIR R4 Bundle",
        response_class=Response,
        responses=problems("not_found", "draft_not_ready") | {200: _FHIR},
    )(fhir)
    return routes


async def create(
    request: Request,
    response: Response,
    body: DraftRequest,
    caller: Caller,
    service: Ours,
    key: Key = None,
    prefer: Annotated[str | None, Header(max_length=200)] = None,
) -> Any:
    """Draft a list for one admission, or queue it with `Prefer: respond-async`."""
    request.app.state.drain.refuse()
    await run_in_threadpool(limit_drafts, request, caller)
    if prefer is not None and "respond-async" in prefer.lower():
        queued = await service.drafts.submit(body, caller, source=_source(caller), key=key)
        headers = {"Location": f"/v1/drafts/{queued.draft_id}", "Preference-Applied": "respond-async"}
        return JSONResponse(queued.model_dump(mode="json"), 202, headers)
    gone = partial(_gone, request)
    return await service.drafts.make(body, caller, source=_source(caller), key=key, gone=gone)


async def read_all(
    caller: Reader,
    service: Ours,
    before: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Drafts:
    """Return the caller's drafts; `before` is the last draft_id of the page before."""
    return Drafts(drafts=await service.drafts.list(caller, before, limit))


async def read(draft_id: DraftId, caller: Reader, service: Ours) -> Draft:
    """Return a draft; somebody else's is not found."""
    return await service.drafts.get(draft_id, caller)


async def cancel(draft_id: DraftId, caller: Caller, service: Ours) -> Draft:
    """Cancel a draft that is queued or running; one that ended before is returned as it is."""
    return await service.drafts.cancel(draft_id, caller)


async def review(draft_id: DraftId, body: ReviewRequest, caller: Caller, service: Ours, key: Key = None) -> Draft:
    """Accept, edit or reject one drug, or take that back; the list is screened again."""
    return await service.drafts.review(draft_id, body, caller, key=key)


async def finalize(draft_id: DraftId, body: FinalizeRequest, caller: Caller, service: Ours) -> Draft:
    """Freeze a draft of which every drug is decided."""
    return await service.drafts.finalise(draft_id, body.if_version, caller)


async def export(
    draft_id: DraftId,
    caller: Reader,
    service: Ours,
    format: Annotated[Literal["json", "csv", "fhir"], Query()] = "json",  # noqa: A002
) -> Response:
    """Return a draft as a file."""
    draft = await service.drafts.export(draft_id, caller, format)
    return _attached(exported(draft, format, service.settings.public_url))


async def fhir(draft_id: DraftId, caller: Reader, service: Ours) -> Response:
    """Return a draft as a Bundle of MedicationRequest (draft, proposal) and DetectedIssue."""
    draft = await service.drafts.export(draft_id, caller, "fhir")
    return _attached(exported(draft, "fhir", service.settings.public_url))


def _attached(file: File) -> Response:
    disposition = f'attachment; filename="{file.name}"'
    return Response(file.content.encode(), media_type=file.media_type, headers={"Content-Disposition": disposition})


def _source(caller: Principal) -> Literal["api", "page"]:
    return "api" if caller.csrf is None else "page"


async def _gone(request: Request) -> None:
    """Wait until the client has closed its connection; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)


_EXPORTS: dict[str, Any] = {
    "description": "The draft.",
    "content": {
        "application/json": {},
        "text/csv": {"schema": {"type": "string"}},
        "application/fhir+json": {"schema": {"type": "object"}},
    },
}
_FHIR: dict[str, Any] = {
    "description": "A Bundle, type collection.",
    "content": {"application/fhir+json": {"schema": {"type": "object"}}},
}
