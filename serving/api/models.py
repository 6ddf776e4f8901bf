"""The route that names the models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from serving.access.dependencies import require
from serving.access.principal import Principal, Scope
from serving.api.parameters import EACH_ONCE
from serving.api.responses import problems
from serving.schemas import ServedModel, ServedModels
from serving.service import Ours


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1", tags=["models"], dependencies=[EACH_ONCE])
    routes.get("/models", summary="The models that draft", responses=problems())(models)
    return routes


async def models(caller: Annotated[Principal, Depends(require(Scope.MODELS))], service: Ours) -> ServedModels:
    """Return the models with their states, the default first."""
    engines = service.engines
    return ServedModels(
        models=[
            ServedModel(
                name=engine.name,
                state=engine.state,
                default=engine.name == engines.default,
                identity=engine.drafter.identity if engine.drafter else None,
            )
            for engine in engines.all()
        ],
        demo=engines.demo,
    )
