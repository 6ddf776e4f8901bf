"""Requests that meet are answered together: one thread asks for all that wait, every other waits for its own answer.

Nobody is made to wait for company: a request that comes alone is answered alone, and those that come meanwhile are
the next to be answered together. For answers that take one call; those of many steps have
`serving.recommenders.scheduler`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Generic

from serving.recommenders.waiting import Answer, Question, Request, WaitingLine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Question]):
    """A question and of whom it is asked: one call is for one adapter."""

    question: Question
    adapter: str


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
        self._ask, self._together = ask, together
        self._line: WaitingLine[_Asked[Question], Answer] = WaitingLine(waiting)
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
        return self._line.put(_Asked(question, adapter), seconds)

    @property
    def waiting(self) -> int:
        """Requests whose call has not begun."""
        return len(self._line)

    def close(self) -> None:
        """Finish what was asked for, take nothing more, and end the thread."""
        self._line.close()
        self._thread.join()

    def _run(self) -> None:
        while requests := self._line.take(self._alike, wait=True):
            self._answer(requests)
            del requests  # while this thread waits, nobody's question is kept

    def _alike(self, waiting: Sequence[Request[_Asked[Question], Answer]]) -> list[Request[_Asked[Question], Answer]]:
        """Return the oldest request and those it can be asked with, or none where none waits."""
        alike = (one for one in waiting if one.question.adapter == waiting[0].question.adapter)
        return list(islice(alike, self._together))

    def _answer(self, requests: Sequence[Request[_Asked[Question], Answer]]) -> None:
        """Ask for all; a failure is theirs alone."""
        try:
            answers = self._ask([one.question.question for one in requests], requests[0].question.adapter)
            answered = list(zip(requests, answers, strict=True))
        except Exception as error:
            log.error("%d requests failed: %s", len(requests), type(error).__name__)
            for request in requests:
                request.fail(error)
            return
        for request, answer in answered:
            request.answer(answer)
