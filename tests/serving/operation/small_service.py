"""A small service under the real middleware and a real uvicorn; not a test. Arguments: key=value of Settings."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from serving.access.exposure import uvicorn_options
from serving.operation.drain import Supervisor, drained, end_with_parent
from serving.operation.logs import configure_logs
from serving.operation.metrics import exposition
from serving.operation.metrics_folder import shared_metrics
from serving.operation.setup import setup_operation
from serving.problems import ProblemError
from serving.settings import Settings, read_settings

WORKERS = int(os.environ.get("RXDRAFT_TEST_WORKERS", "1"))


def read() -> Settings:
    return read_settings(None, [f"public_url=http://127.0.0.1:{os.environ['RXDRAFT_TEST_PORT']}", *sys.argv[1:]])


def create() -> FastAPI:
    settings = read()
    configure_logs(settings)
    if WORKERS > 1:
        end_with_parent(0.1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with drained(app.state.drain, settings.drain_grace_seconds):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        if app.state.drain.draining:
            raise ProblemError("draining")
        return {"pid": os.getpid()}

    @app.get("/slow")
    async def slow(seconds: float) -> dict[str, Any]:
        app.state.drain.refuse()
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    @app.get("/seen")
    @app.post("/seen")
    async def seen(request: Request) -> dict[str, Any]:
        body = await request.body()
        return {
            "client": request.client.host,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "size": len(body),
        }

    @app.get("/metrics")
    def metrics() -> str:
        return exposition()[0].decode()

    setup_operation(app, settings)
    return app


if __name__ == "__main__":
    port = int(os.environ["RXDRAFT_TEST_PORT"])
    options = uvicorn_options(read()) | {"http": os.environ.get("RXDRAFT_TEST_HTTP", "h11")}
    if WORKERS == 1:
        import signal

        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        uvicorn.Server(uvicorn.Config(create(), port=port, **options)).run()
    else:
        sys.path.insert(0, os.path.dirname(__file__))
        config = uvicorn.Config("small_service:create", factory=True, port=port, workers=WORKERS, **options)
        with shared_metrics():
            Supervisor(config, [config.bind_socket()]).run()
