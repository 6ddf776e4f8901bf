"""Ending without dropping anybody: told to stop, say so, let what runs finish, then close.

uvicorn closes its port first and runs the lifespan's end last, so a balancer would never see a probe say no.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from uvicorn.supervisors import Multiprocess

from serving.operation.logs import event
from serving.problems import ProblemError

FORWARDED_WITHIN_SECONDS = 2
"""systemd signals every process of a unit, and uvicorn's parent its workers once more: those two are one."""


class Drain:
    """Whether this process has been told to stop.

    Attributes:
        draining: read it wherever new work would begin.
    """

    def __init__(self) -> None:
        self.draining = False
        self._since = 0.0

    def begin(self) -> None:
        """Take no new work from now on."""
        self.draining, self._since = True, time.monotonic()

    def told_again(self) -> bool:
        """Whether a signal that comes now is a second one, and not the first one forwarded."""
        return self.draining and time.monotonic() - self._since > FORWARDED_WITHIN_SECONDS

    def refuse(self) -> None:
        """Raise ProblemError draining (503, Retry-After) once told to stop; call it before new work."""
        if self.draining:
            raise ProblemError("draining")


@asynccontextmanager
async def drained(drain: Drain, grace_seconds: float) -> AsyncIterator[None]:
    """Within the lifespan: SIGTERM first sets `drain.draining`, and reaches uvicorn after the grace period.

    A second SIGTERM ends the process at once; the store takes up what it leaves. Outside of the main thread, as in
    tests, there are no signals and this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, previous = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def on_term(number: int, frame: FrameType | None) -> None:
        if drain.told_again():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        elif not drain.draining:
            drain.begin()
            loop.call_soon_threadsafe(_close_later, loop, grace_seconds, previous)

    signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        drain.draining = True
        if signal.getsignal(signal.SIGTERM) is on_term:
            signal.signal(signal.SIGTERM, previous)


def _close_later(loop: asyncio.AbstractEventLoop, seconds: float, previous: Any) -> None:
    event("draining", seconds=seconds)
    loop.call_later(seconds, lambda: previous(signal.SIGTERM, None) if callable(previous) else None)


class Supervisor(Multiprocess):
    """uvicorn's parent of several workers, which also hears a second signal while it waits for them to finish."""

    def join_all(self) -> None:
        """Wait for the workers; told to stop once more, kill them."""
        while any(process.process.is_alive() for process in self.processes):
            if self.signal_queue:
                for process in self.processes:
                    process.process.kill()
            time.sleep(0.05)
        super().join_all()


def end_with_parent(every_seconds: float = 1) -> None:
    """In a worker: stop when the parent is gone, else the worker would hold the port with nobody to stop it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
