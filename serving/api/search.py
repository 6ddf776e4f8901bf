"""The routes of the search: codes and drugs, by GET for people at a shell, by POST for everybody with a patient."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool

from serving.access.dependencies import require
from serving.access.principal import Principal, Scope
from serving.api.parameters import EACH_ONCE
from serving.api.responses import problems
from serving.schemas import FoundCodes, FoundDrugs, SearchRequest
from serving.service import Ours

Caller = Annotated[Principal, Depends(require(Scope.SEARCH))]
Text = Annotated[str, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=50)]


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1", tags=["search"], dependencies=[EACH_ONCE], responses=problems("not_ready"))
    routes.get("/icd", summary="Search diagnoses")(icd)
    routes.post("/icd", summary="Search diagnoses, with no text in the URL")(post_icd)
    routes.get("/drugs", summary="Search drugs")(drugs)
    routes.post("/drugs", summary="Search drugs, with no text in the URL")(post_drugs)
    return routes


async def icd(
    caller: Caller, service: Ours, q: Text, version: Literal["9", "10"] | None = None, limit: Limit = 20
) -> FoundCodes:
    """Return the codes that fit best: by code, with or without its dot, or by the beginnings of words."""
    return FoundCodes(codes=await run_in_threadpool(service.search.icd, q, version and int(version), limit))


async def post_icd(body: SearchRequest, caller: Caller, service: Ours) -> FoundCodes:
    """Return the codes that fit best: by code, with or without its dot, or by the beginnings of words."""
    return FoundCodes(codes=await run_in_threadpool(service.search.icd, body.q, body.version, body.limit))


async def drugs(caller: Caller, service: Ours, q: Text, limit: Limit = 20) -> FoundDrugs:
    """Return the drugs that fit best, those of the default model's formulary first."""
    return FoundDrugs(drugs=await run_in_threadpool(service.search.drugs, q, limit))


async def post_drugs(body: SearchRequest, caller: Caller, service: Ours) -> FoundDrugs:
    """Return the drugs that fit best, those of the default model's formulary first."""
    return FoundDrugs(drugs=await run_in_threadpool(service.search.drugs, body.q, body.limit))
