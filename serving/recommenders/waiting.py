"""Requests that wait for the one thread that answers them: who asked, by when, and how many may wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.recommendation import BusyError, LateError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Request(Generic[Question, Answer]):
    """A question, and who waits for the answer.

    Attributes:
        deadline: by `time.monotonic`.
        future: cancelled by whoever does not want the answer any more.
    """

    question: Question
    deadline: float
    future: Future[Answer] = field(default_factory=Future)

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


class WaitingLine(Generic[Question, Answer]):
    """Where any number of threads put requests, up to a bound, and one takes them out."""

    def __init__(self, most: int) -> None:
        """Begin with nobody waiting.

        Args:
            most: requests that may wait.
        """
        self._most = most
        self._requests: deque[Request[Question, Answer]] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def __len__(self) -> int:
        """Count the requests that were not taken out yet."""
        return len(self._requests)

    def put(self, question: Question, seconds: float) -> Future[Answer]:
        """Ask, and wait in the line.

        Args:
            question: what is asked.
            seconds: until the future fails with `LateError`.

        Raises:
            BusyError: too many are waiting already, or the line is closed.
        """
        request: Request[Question, Answer] = Request(question, time.monotonic() + seconds)
        with self._changed:
            if len(self._requests) >= self._most:
                self._drop_over()
            if self.closed or len(self._requests) >= self._most:
                raise BusyError(f"{len(self._requests)} requests are waiting; ask again in a moment")
            self._requests.append(request)
            self._changed.notify()
        return request.future

    def take(
        self, choose: Callable[[Sequence[Request[Question, Answer]]], list[Request[Question, Answer]]], *, wait: bool
    ) -> list[Request[Question, Answer]]:
        """Take out those that are chosen of all that wait.

        Args:
            choose: given the requests, the oldest first; must not be slow, since who asks waits for it.
            wait: until somebody asks or the line is closed.
        """
        with self._changed:
            self._drop_over()
            while wait and not (self._requests or self.closed):
                self._changed.wait()
                self._drop_over()
            chosen = choose(self._requests)
            self._requests = deque(one for one in self._requests if one not in chosen)
            return chosen

    def close(self) -> None:
        """Take no more requests; those that wait are still taken out."""
        with self._changed:
            self.closed = True
            self._changed.notify()

    def _drop_over(self) -> None:
        self._requests = deque(one for one in self._requests if not one.is_over())
