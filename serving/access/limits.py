"""How often somebody may ask.

Drafts and failed sign-ins are counted in the store, over all processes: they are few and cost much. Every other call
is counted in memory, in each process by itself: a write for each read would cost more than the read.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from fastapi import Request

from serving.access.principal import Principal
from serving.problems import ProblemError

MINUTE = 60


class Window:
    """Counts hits by key within the running minute; thread-safe, and empty again with each new one."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._began = most, clock, clock()
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hit(self, key: str) -> float | None:
        """Count once; return the seconds until the next minute if that is more than allowed."""
        with self._lock:
            passed = self._clock() - self._began
            if passed >= MINUTE:
                self._hits.clear()
                self._began, passed = self._clock(), 0
            self._hits[key] += 1
            return MINUTE - passed if self._hits[key] > self._most else None


def refuse_over(wait: float | None) -> None:
    """Raise ProblemError rate_limited if there is a wait, in seconds."""
    if wait is not None:
        raise ProblemError("rate_limited", retry_after=max(1.0, wait))


def limit_drafts(request: Request, principal: Principal) -> None:
    """Count a draft of this principal, over all processes; writes to the store, so call it in a thread.

    Raises:
        ProblemError: 429 rate_limited, with Retry-After.
    """
    from serving.access.state import access_of

    access = access_of(request)
    refuse_over(access.counters.hit(f"drafts {principal.id}", access.settings.drafts_per_minute, MINUTE))
