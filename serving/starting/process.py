"""A server's processes: one, or a parent with workers; each opens the store and loads the models by itself."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError, RxdraftError
from serving.settings import Settings
from serving.starting.fleet import Fleet

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_FAILED = 3
"""Exit status by which uvicorn's parent knows that a worker would fail again."""


_SILENT_SECONDS = 60
"""After which a worker counts as hung: one that loads a model may say nothing for longer than uvicorn's usual 5 s."""

_SWITCH_SECONDS = 0.0005
"""A thread that waited for the store may wait so long for another's computing, not Python's usual 5 ms."""


_YOUNG = 10_000
"""Objects made before the garbage collector looks for cycles, not Python's usual 700: a draft makes thousands."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a serving process is made of; may be sent to one.

    Attributes:
        store: its URL.
        workers: processes that share the port and the store.
        told: file that the first worker to fail makes, so that one of them says why.
    """

    fleet: Fleet
    settings: Settings
    store: str
    workers: int = 1
    told: Path | None = None


def serve_alone(plan: Plan, listener: socket.socket, **options: Any) -> None:
    """Serve in this process until it is told to stop.

    Raises:
        Exception: a model could not be loaded.
    """
    import uvicorn

    engines = plan.fleet.engines()
    app = _app(plan, engines, failed=lambda: setattr(server, "should_exit", True))
    server = uvicorn.Server(_config(plan, app, **options))
    # uvicorn raises the signal again once it has shut down: to have been told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server.run([listener])
    if engines.error is not None:
        raise engines.error


def serve_together(plan: Plan, listener: socket.socket, **options: Any) -> None:
    """Serve with several workers until told to stop.

    Raises:
        SystemExit: 2, a model could not be loaded; a worker has said why.
    """
    from serving.operation.drain import Supervisor

    options |= {"factory": True, "workers": plan.workers, "timeout_worker_healthcheck": _SILENT_SECONDS}
    config = _config(plan, partial(worker_app, plan), **options)
    supervisor = Supervisor(config, [listener])
    supervisor.run()
    if any(process.exitcode == _FAILED for process in supervisor.processes):
        sys.exit(2)


def worker_app(plan: Plan) -> FastAPI:
    """Build the app of a worker; it ends with its parent, and when a model cannot be loaded."""
    from serving.operation.drain import end_with_parent
    from serving.operation.logs import configure_logs

    configure_logs(plan.settings)
    end_with_parent()
    engines = plan.fleet.engines()

    def failed() -> None:
        if plan.told is not None and engines.error is not None:
            with suppress(FileExistsError), plan.told.open("x"):
                sys.stderr.write(_in_words(engines.error) + "\n")
        os._exit(_FAILED)

    return _app(plan, engines, failed)


def listen(host: str, port: int) -> socket.socket:
    """Open a port; 0: any that is free.

    Raises:
        ConfigError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host} port {port} ({error.strerror}); choose another --port") from None
    listener.set_inheritable(True)
    return listener


def _config(plan: Plan, app: Any, **options: Any) -> uvicorn.Config:
    import uvicorn

    from serving.access.exposure import uvicorn_options

    return uvicorn.Config(app, **{**uvicorn_options(plan.settings), **options})


def _app(plan: Plan, engines: Any, failed: Callable[[], None]) -> FastAPI:
    from serving.app import create_app
    from serving.starting.cache import cache_folder
    from serving.store.engine import open_store

    _share_cores(plan.workers)
    sys.setswitchinterval(_SWITCH_SECONDS)
    store = open_store(plan.store)
    folder = cache_folder() / "search"
    return create_app(engines, plan.settings, store, loaded=_settle, failed=failed, search_folder=folder)


def _settle() -> None:
    """Spare the garbage collector what was loaded: half a million objects, 0.3 s each time it looked at them all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)


def _share_cores(workers: int) -> None:
    """Give each worker its part of the cores: more threads than cores wait for each other."""
    if workers > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # read when torch is first imported


def _in_words(error: Exception) -> str:
    if isinstance(error, RxdraftError | OSError):
        return f"rxdraft: {error}"
    return "".join(traceback.format_exception(error))
