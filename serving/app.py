"""The HTTP service, assembled: routes over one `Service`, guarded by access and surrounded by operation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from etl.drug_vocabulary import read_drug_vocabulary
from serving.access.setup import setup_access
from serving.api import drafts, probes, screen, search
from serving.api import models as models_api
from serving.cds import routes as cds
from serving.drafting.drafts import DraftService
from serving.drafting.engines import Engines, of_one
from serving.drafting.upkeep import keep_up
from serving.drafting.worker import Worker
from serving.operation.drain import drained
from serving.operation.logs import event
from serving.operation.setup import setup_operation
from serving.page import routes as page
from serving.recommendation import Drafter
from serving.screening import Screener
from serving.search import Search
from serving.service import Service
from serving.settings import Settings
from serving.store.engine import Store
from serving.vocabulary import Vocabulary

_NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(
    models: Engines | Callable[[], Drafter],
    settings: Settings,
    store: Store,
    *,
    loaded: Callable[[], None] = lambda: None,
    failed: Callable[[], None] = lambda: None,
    search_folder: Path | None = None,
) -> FastAPI:
    """Build the service around models that are loaded after the port is open.

    Args:
        models: engines, or what loads the only model; until then /readyz and drafts answer 503, the rest works.
        settings: of the deployment.
        store: open.
        loaded: called from a thread once the models are, and the search; failed: instead, if a model cannot be loaded;
            `Engines.error` says why.
        search_folder: keeps the search's indexes; None: they go with the app.
    """
    engines = models if isinstance(models, Engines) else of_one(models)
    service = _service(engines, settings, store, search_folder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _load(service, loaded, failed)
        async with drained(app.state.drain, 0 if settings.dev else settings.drain_grace_seconds):
            worker = Worker(settings, service.drafts, engines, app.state.drain)
            tasks = [asyncio.create_task(work) for work in (worker.run(), keep_up(settings, store))]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    # The interactive docs would load scripts from other hosts; the schema itself is at /openapi.json.
    app = FastAPI(
        title="rxdraft",
        description="Draft prescription lists for clinicians to review. Not for use without review.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the query
        telemetry=_NO_TELEMETRY,
    )
    app.state.service = service
    setup_access(app, settings, store)
    for part in (drafts, screen, search, models_api, probes, cds, page):
        app.include_router(part.router())
    setup_operation(app, settings)
    return app


def _load(service: Service, loaded: Callable[[], None], failed: Callable[[], None]) -> None:
    """Load the models, and beside them what the search needs, in threads."""
    engines, search = service.engines, service.search
    vocabulary = engines.loadings[0].vocabulary or (lambda: engines.drafter().vocabulary)
    reading = threading.Thread(target=_read_search, args=(search, vocabulary), name="rxdraft-search", daemon=True)
    if engines.loadings[0].vocabulary is not None:  # else it is the models that know it
        reading.start()

    def after_models() -> None:
        if reading.ident is None:
            reading.start()
        reading.join()
        loaded()

    engines.start(loaded=after_models, failed=failed)


def _read_search(search: Search, vocabulary: Callable[[], Vocabulary]) -> None:
    try:
        search.read(vocabulary)
    except Exception as error:  # drafts can be made without
        event("search_failed", level="error", exc_type=type(error).__name__)


def _service(engines: Engines, settings: Settings, store: Store, search_folder: Path | None) -> Service:
    vocabulary = read_drug_vocabulary()
    screener = Screener(settings.interactions, vocabulary)
    return Service(
        settings=settings,
        store=store,
        engines=engines,
        screener=screener,
        search=Search(search_folder),
        drafts=DraftService(settings, store, engines, screener),
        vocabulary=vocabulary,
    )
