"""A circuit breaker: what failed often in a row is left alone for a while, then tried by one request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from etl.errors import RxdraftError

FAILURES = 5
"""In a row, that open it."""
SECONDS = 15.0
"""That it stays open before one request may try."""


class EngineDownError(RxdraftError):
    """The engine does not answer, or has not for a while and is not asked.

    Attributes:
        retry_after: seconds.
    """

    def __init__(self, message: str, retry_after: float = SECONDS) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(slots=True)
class Outcome:
    """How a guarded call went; an exception that does not set `failed` says nothing about the engine."""

    failed: bool = False


class Breaker:
    """Closed: all may pass. Open: nobody. Half-open, after a while: one may, and how that goes decides."""

    def __init__(
        self, failures: int = FAILURES, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = failures, seconds, clock
        self._failures, self._opened, self._probing = 0, 0.0, False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it has failed so often that not everybody may pass."""
        return self._failures >= self._most

    @contextmanager
    def guard(self) -> Iterator[Outcome]:
        """Let a call pass, and learn how it went.

        Raises:
            EngineDownError: it is open.
        """
        probe = self._enter()
        outcome, answered = Outcome(), False
        try:
            yield outcome
            answered = True
        finally:
            self._leave(probe, outcome.failed, answered)

    def _enter(self) -> bool:
        with self._lock:
            if not self.is_open:
                return False
            left = self._opened + self._seconds - self._clock()
            if left > 0 or self._probing:
                raise EngineDownError("the engine has not answered for a while; ask again later", max(1.0, left))
            self._probing = True
            return True

    def _leave(self, probe: bool, failed: bool, answered: bool) -> None:
        with self._lock:
            self._probing = self._probing and not probe
            if failed:
                self._failures += 1
                self._opened = self._clock()
            elif answered:
                self._failures = 0
