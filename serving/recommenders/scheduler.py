"""Requests that meet are drafted together: one thread runs the model, and every other waits for its own lists.

A request joins the lists in the making at their next step and leaves when its own are done, so that a short one never
waits for a long one's end. Transformers' continuous batching takes no grammar, hence this.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from etl.errors import ConfigError
from serving.decoding.decoder import Ask, Drawn, ListDecoder
from serving.decoding.trie import NOTHING_LEFT, FormularyTrie
from serving.recommenders.waiting import Request, WaitingLine

if TYPE_CHECKING:
    from serving.recommenders.engine import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, and of whom."""

    ask: Ask
    adapter: str | None
    trie: FormularyTrie


_Request: TypeAlias = Request[_Asked, list[Drawn]]


class Scheduler:
    """The one thread that runs an engine's lists; use it from any number of others."""

    def __init__(self, engine: Engine, rows: int = 64, waiting: int = 256) -> None:
        """Start the thread.

        Args:
            engine: whose adapters are asked.
            rows: lists in the making at once, for each adapter.
            waiting: requests that may wait for a row.
        """
        self._engine, self._rows = engine, rows
        self._line: WaitingLine[_Asked, list[Drawn]] = WaitingLine(waiting)
        self._running: dict[str | None, tuple[ListDecoder, dict[int, _Request]]] = {}
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
        return self._line.put(_Asked(ask, adapter, trie), seconds)

    @property
    def waiting(self) -> int:
        """Requests that no row was free for yet."""
        return len(self._line)

    def close(self) -> None:
        """Finish what was asked for, take nothing more, and end the thread."""
        self._line.close()
        self._thread.join()

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Take one step with all lists, of which new ones begin; False: closed, and all is done."""
        begun = self._line.take(self._with_room, wait=not self._busy)
        if not begun and self._line.closed and not self._busy:
            return False
        for adapter, (decoder, running) in self._running.items():
            self._advance(adapter, decoder, running, [one for one in begun if one.question.adapter == adapter])
        return True

    @property
    def _busy(self) -> bool:
        return any(running for _, running in self._running.values())

    def _with_room(self, waiting: Sequence[_Request]) -> list[_Request]:
        """Return the waiting requests that there are rows for, in the order they came."""
        begun: list[_Request] = []
        room: dict[str | None, int] = {}
        for request in waiting:
            asked = request.question
            if asked.adapter not in self._running:  # only its first request tells its formulary
                self._running[asked.adapter] = ListDecoder(self._engine.causal, asked.trie, self._rows), {}
            free = room.setdefault(asked.adapter, self._running[asked.adapter][0].free)
            fits = asked.ask.rows <= free
            room[asked.adapter] = free - asked.ask.rows if fits else 0  # who came later does not overtake
            if fits:
                begun.append(request)
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
                running.update(zip(decoder.admit([one.question.ask for one in begun]), begun, strict=True))
                done = decoder.step() if decoder.busy else {}
        except Exception as error:
            log.error("lists of %d requests failed: %s", len(running) + len(begun), type(error).__name__)
            for request in {*running.values(), *begun}:
                request.fail(error)
            self._running[adapter] = decoder.renewed(), {}
            return
        for number, drawn in done.items():
            running.pop(number).answer(drawn)
