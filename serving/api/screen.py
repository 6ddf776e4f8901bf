"""The route of the rules alone: it waits for no model and no queue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool

from serving.access.dependencies import require
from serving.access.principal import Principal, Scope
from serving.api.parameters import EACH_ONCE
from serving.api.responses import problems
from serving.schemas import Screened, ScreenRequest
from serving.service import Ours


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1", tags=["screening"], dependencies=[EACH_ONCE])
    routes.post("/screen", summary="Screen drugs; nothing is recorded", responses=problems())(screen)
    return routes


async def screen(
    body: ScreenRequest,
    caller: Annotated[Principal, Depends(require(Scope.SCREEN))],
    service: Ours,
) -> Screened:
    """Screen drugs against each other and against what is known of the patient."""
    return await run_in_threadpool(service.drafts.screen, body)
