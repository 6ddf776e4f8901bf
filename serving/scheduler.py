"""Requests that meet are drafted together: one thread runs the model, and every other waits for its own lists.

A request joins the lists in the making at their next step and leaves when its own are done, so that a short one never
waits for a long one's end. Transformers' continuous batching takes no grammar, hence this.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl.errors import ConfigError
from serving.decoding.decoder import Ask, Drawn, ListDecoder
from serving.decoding.trie import NOTHING_LEFT, FormularyTrie
from serving.recommendation import BusyError, LateError

if TYPE_CHECKING:
    from serving.engine import Engine

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request:
    ask: Ask
    adapter: str | None
    trie: FormularyTrie
    deadline: float
    future: Future[list[Drawn]]
    number: int = -1

    def is_over(self) -> bool:
        """Tell whether nobody waits any more; who waited in vain is told."""
        if time.monotonic() >= self.deadline:
            self.fail(LateError("the draft was not done by its deadline; ask again, or allow more time"))
        return self.future.done()

    def answer(self, drawn: list[Drawn]) -> None:
        """Hand the lists over, if they are still wanted."""
        if not self.is_over() and self.future.set_running_or_notify_cancel():
            self.future.set_result(drawn)

    def fail(self, error: Exception) -> None:
        """Tell that there will be no lists, if somebody waits for them."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Scheduler:
    """The one thread that runs an engine's lists; use it from any number of others."""

    def __init__(self, engine: Engine, rows: int = 64, waiting: int = 256) -> None:
        """Start the thread.

        Args:
            engine: whose adapters are asked.
            rows: lists in the making at once, for each adapter.
            waiting: requests that may wait for a row.
        """
        self._engine, self._rows, self._most_waiting = engine, rows, waiting
        self._waiting: deque[_Request] = deque()
        self._running: dict[str | None, tuple[ListDecoder, dict[int, _Request]]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rxdraft-scheduler", daemon=True)
        self._thread.start()

    def submit(
        self, ask: Ask, adapter: str | None, trie: FormularyTrie, seconds: float = float("inf")
    ) -> Future[list[Drawn]]:
        """Ask for lists; cancelling the future frees their rows at the next step.

        Args:
            ask: at most as many lists as there are rows.
            adapter: name given to the engine; None: the base alone.
            trie: of the formulary; one for each adapter.
            seconds: until the future fails with `LateError`.

        Raises:
            BusyError: too many are waiting already.
            ConfigError: nobody could answer this.
        """
        if ask.rows > self._rows:
            raise ConfigError(f"{ask.rows} lists for one request, wanted at most {self._rows}")
        if len(ask.forbidden) >= len(trie.names):
            raise ConfigError(NOTHING_LEFT)
        future: Future[list[Drawn]] = Future()
        with self._changed:
            if self._closed or len(self._waiting) >= self._most_waiting:
                raise BusyError(f"{len(self._waiting)} requests are waiting; ask again in a moment")
            self._waiting.append(_Request(ask, adapter, trie, time.monotonic() + seconds, future))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Requests that no row was free for yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Finish what was asked for, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closed or any(running for _, running in self._running.values())):
                    self._changed.wait()
                begun = self._take()
            if not begun and self._closed and not any(running for _, running in self._running.values()):
                return
            for adapter, (decoder, running) in self._running.items():
                self._advance(adapter, decoder, running, begun.get(adapter, []))

    def _take(self) -> dict[str | None, list[_Request]]:
        """Return the waiting requests that there are rows for, by adapter, in the order they came."""
        begun: dict[str | None, list[_Request]] = {}
        room: dict[str | None, int] = {}
        left: deque[_Request] = deque()
        for request in self._waiting:
            if request.is_over():
                continue
            adapter = request.adapter
            if adapter not in self._running:  # only its first request tells its formulary
                self._running[adapter] = ListDecoder(self._engine.causal, request.trie, self._rows), {}
            free = room.setdefault(adapter, self._running[adapter][0].free)
            if request.ask.rows <= free:
                room[adapter] -= request.ask.rows
                begun.setdefault(adapter, []).append(request)
            else:
                room[adapter] = 0  # who came later does not overtake
                left.append(request)
        self._waiting = left
        return begun

    def _advance(
        self, adapter: str | None, decoder: ListDecoder, running: dict[int, _Request], begun: list[_Request]
    ) -> None:
        """Begin what is new and take one step with all of an adapter's lists; a failure is theirs alone."""
        for number in [number for number, request in running.items() if request.is_over()]:
            decoder.cancel(number)
            del running[number]
        try:
            with self._engine.turned_to(adapter):
                running.update(zip(decoder.admit([request.ask for request in begun]), begun, strict=True))
                done = decoder.step() if decoder.busy else {}
        except Exception as error:
            log.error("lists of %d requests failed: %s", len(running) + len(begun), type(error).__name__)
            for request in {*running.values(), *begun}:
                request.fail(error)
            self._running[adapter] = decoder.renewed(), {}
            return
        for number, drawn in done.items():
            running.pop(number).answer(drawn)
