"""Requests that meet are answered together: one thread asks for all that wait, every other waits for its own answer.

Nobody is made to wait for company: a request that comes alone is answered alone, and those that come meanwhile are
the next to be answered together. For answers that take one call; those of many steps have `serving.scheduler`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from serving.recommendation import BusyError, LateError

log = logging.getLogger(__name__)

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Request(Generic[Question, Answer]):
    """A question, of whom it is asked, and who waits for the answer.

    Attributes:
        adapter: one call is for one adapter.
        deadline: by `time.monotonic`.
        future: cancelled by whoever does not want the answer any more.
    """

    question: Question
    adapter: str
    deadline: float
    future: Future[Answer]

    def is_over(self) -> bool:
        """Tell whether nobody waits any more; who waited in vain is told."""
        if time.monotonic() >= self.deadline:
            self.fail(LateError("the draft was not done by its deadline; ask again, or allow more time"))
        return self.future.done()

    def answer(self, answer: Answer) -> None:
        """Hand the answer over, if it is still wanted."""
        if not self.is_over() and self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Tell that there will be no answer, if somebody waits for one."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Gatherer(Generic[Question, Answer]):
    """The one thread that asks; use it from any number of others."""

    def __init__(
        self, ask: Callable[[Sequence[Question], str], Iterable[Answer]], together: int = 32, waiting: int = 256
    ) -> None:
        """Start the thread.

        Args:
            ask: called with questions and their adapter; gives an answer for each.
            together: questions in one call, at most.
            waiting: requests that may wait for a call.
        """
        self._ask, self._together, self._most_waiting = ask, together, waiting
        self._waiting: deque[Request[Question, Answer]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rxdraft-gatherer", daemon=True)
        self._thread.start()

    def submit(self, question: Question, adapter: str, seconds: float = float("inf")) -> Future[Answer]:
        """Ask; a future that is cancelled before its call begins costs nothing.

        Args:
            question: what `ask` takes a sequence of.
            adapter: what `ask` takes beside it.
            seconds: until the future fails with `LateError`.

        Raises:
            BusyError: too many are waiting already.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                self._drop_over()
            if self._closed or len(self._waiting) >= self._most_waiting:
                raise BusyError(f"{len(self._waiting)} requests are waiting; ask again in a moment")
            self._waiting.append(Request(question, adapter, time.monotonic() + seconds, future))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Requests whose call has not begun."""
        return len(self._waiting)

    def close(self) -> None:
        """Finish what was asked for, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while requests := self._next():
            self._answer(requests)
            del requests  # while this thread waits, nobody's question is kept

    def _next(self) -> list[Request[Question, Answer]]:
        """Return the oldest request and those it can be asked with, or none: closed, and all is done."""
        with self._changed:
            self._drop_over()
            while not (self._waiting or self._closed):
                self._changed.wait()
                self._drop_over()
            alike = (one for one in self._waiting if one.adapter == self._waiting[0].adapter)
            begun = list(islice(alike, self._together))
            self._waiting = deque(one for one in self._waiting if one not in begun)
            return begun

    def _drop_over(self) -> None:
        self._waiting = deque(one for one in self._waiting if not one.is_over())

    def _answer(self, requests: Sequence[Request[Question, Answer]]) -> None:
        """Ask for all; a failure is theirs alone."""
        try:
            answers = self._ask([one.question for one in requests], requests[0].adapter)
            answered = list(zip(requests, answers, strict=True))
        except Exception as error:
            log.error("%d requests failed: %s", len(requests), type(error).__name__)
            for request in requests:
                request.fail(error)
            return
        for request, answer in answered:
            request.answer(answer)
