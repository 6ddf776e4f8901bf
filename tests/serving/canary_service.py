"""The whole service with everything told that can be told: DEBUG, spans in a file, what fails; not a test.

Arguments: folder of a cohort, URL of the store, folder for spans, routes and the search's index, key=value of Settings.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Body, FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from serving.access.exposure import uvicorn_options
from serving.app import create_app
from serving.loading import loader
from serving.operation.logs import configure_logs
from serving.operation.tracing import Tracing
from serving.settings import read_settings
from serving.store.engine import Store, open_store

BREAKS = "BREAKS"
"""In a diagnosis: the model fails, and its exception quotes the patient."""


class Breaking:
    """A model that fails on some patients."""

    def __init__(self, drafter: Any) -> None:
        self._drafter = drafter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._drafter, name)

    async def draft(self, admission: Any, seconds: float) -> Any:
        if BREAKS in str(admission):
            raise KeyError(str(admission))
        return await self._drafter.draft(admission, seconds)


def add_failing_routes(app: FastAPI, store: Store) -> None:
    """Add what fails with the body's words in its exception: an error of ours, and one of the database."""

    @app.post("/v1/broken")
    def broken(body: object = Body()) -> None:
        raise KeyError(f"{body}")

    @app.post("/v1/broken-store")
    def broken_store(body: object = Body()) -> None:
        with store.reading() as con:
            con.execute(text("SELECT :body FROM nowhere"), {"body": f"{body}"})


def main(cohort: str, url: str, folder: str, *overrides: str) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    port, store = int(os.environ["RXDRAFT_TEST_PORT"]), open_store(url)
    settings = read_settings(None, [f"public_url=http://127.0.0.1:{port}", "log_level=DEBUG", *overrides])
    configure_logs(settings)
    load, kept = loader(Path("baseline:popularity"), None, Path(cohort)), Path(folder)
    app = create_app(lambda: Breaking(load()), settings, store, search_folder=kept / "search")
    add_failing_routes(app, store)
    (kept / "routes.json").write_text(
        json.dumps(sorted({context.path or "" for context in iter_route_contexts(app.routes)}))
    )
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=(kept / "spans.txt").open("w"))))
    app.add_middleware(Tracing, tracer=provider.get_tracer("canary"))
    options = uvicorn_options(settings) | {"log_level": "trace"}
    uvicorn.run(app, port=port, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
