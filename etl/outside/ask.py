"""Many questions to one model: in parallel, at an allowed pace, again where that may help, each answer kept at once.

Every question ends in a counted state: an answer in the ledger, whatever it is worth, or a failure there that leaves
it open for the next run. A server that has stopped answering ends the run; what came so far is kept.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

from etl.errors import ConfigError, ContractError
from etl.outside.asked import Ledger, Question
from etl.outside.endpoint import Decoding, NoAnswerError, Reply, Respondent
from etl.progress import Told
from etl.prompts import Message

LONGEST_WAIT_SECONDS = 300.0
_CHARACTERS_PER_TOKEN = 4


def count_tokens(messages: list[Message]) -> int:
    """Estimate the tokens of a question; no tokenizer is asked, since every model has its own."""
    return math.ceil(sum(len(message["content"]) for message in messages) / _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd_per_million: float
    output_usd_per_million: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Return what so many tokens cost, in US dollars."""
        return (tokens_in * self.input_usd_per_million + tokens_out * self.output_usd_per_million) / 1e6


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard a server may be pressed; None is no limit.

    Attributes:
        concurrency: requests under way at once.
        requests_per_minute, tokens_per_minute: as the provider allows; spread evenly.
        tries: requests a question gets before it is left open.
        give_up_after: questions left open one after another before the run ends.
        first_wait_seconds: before the second try, where the server names no time; doubled each time.
        max_usd: what this run may spend on this model.
    """

    concurrency: int = 4
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    tries: int = 6
    give_up_after: int = 5
    first_wait_seconds: float = 1.0
    max_usd: float | None = None


class Pace:
    """Deals out moments so that a minute never holds more than allowed."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    def reserve(self, amount: float, now: float) -> float:
        """Take `amount` and return the moment from which it may be used."""
        begins = max(self._next, now)
        self._next = begins + amount * self._seconds_each
        return begins

    def hold(self, until: float) -> None:
        """Give nothing out before a moment: the server asked for quiet."""
        self._next = max(self._next, until)


@dataclass(slots=True)
class Tally:
    """What a run did.

    Attributes:
        stored: questions the ledger answered.
        asked: questions that got an answer now.
        open: questions without one, by the state of their last try.
        usd: spent now, as far as the price is known.
    """

    stored: int = 0
    asked: int = 0
    open: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0


class Interview:
    """Puts questions to one model; entered to learn which snapshot answers, left to let the connections go."""

    def __init__(
        self,
        respondent: Respondent,
        decoding: Decoding,
        ledger: Ledger,
        limits: Limits,
        price: Price | None = None,
    ) -> None:
        self._respondent, self._decoding, self._ledger = respondent, decoding, ledger
        self._limits, self._price = limits, price
        self._requests, self._tokens = Pace(limits.requests_per_minute), Pace(limits.tokens_per_minute)
        self._left_open_in_a_row, self._under_way_usd = 0, 0.0
        self._put_already: set[str] = set()
        self._shutdown_date: str | None = None
        self.snapshot = ""
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        """Ask which snapshot answers.

        Raises:
            ConfigError: the server refuses, or does not answer.
        """
        try:
            self.snapshot, self._shutdown_date = await self._resolve()
            self._ledger.resolve(self._respondent.model, self.snapshot, self._shutdown_date)
        except BaseException:
            await self._respondent.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._respondent.close()

    async def run(self, questions: Sequence[Callable[[], Question]], told: Told) -> str:
        """Ask what the ledger does not answer, from first to last, and return the snapshot's name; see `put`."""
        async with self:
            await self.put(questions, told)
        return self.snapshot

    async def put(self, questions: Sequence[Callable[[], Question]], told: Told) -> None:
        """Ask what the ledger does not answer.

        Args:
            questions: made only when their turn comes: a chart is long, a unit short.
            told: (done, all, None).

        Raises:
            ConfigError: the server refuses, or has stopped answering; what came so far is kept.
            ContractError: another snapshot began to answer.
        """
        waiting = iter(questions)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._limits.concurrency):
                    group.create_task(self._work(waiting, len(questions), told))
        except* (ConfigError, ContractError) as errors:
            raise errors.exceptions[0] from None

    async def _resolve(self) -> tuple[str, str | None]:
        for attempt in range(1, self._limits.tries + 1):
            try:
                return await self._respondent.resolve()
            except NoAnswerError as failure:
                self._stop_if_refused(failure)
                if attempt == self._limits.tries:
                    self._stop(failure)
                await self._wait(failure, attempt)
        raise AssertionError("unreachable")

    async def _work(self, waiting: Iterator[Callable[[], Question]], total: int, told: Told) -> None:
        for make in waiting:  # shared: every worker takes the next one
            question = make()
            key = question.key(self.snapshot, self._decoding)
            if key in self._put_already or self._ledger.find(key):
                self.tally.stored += 1
            else:
                self._put_already.add(key)  # two stays with one and the same chart ask the same
                await self._put(question, key)
            told(self.tally.stored + self.tally.asked + self.tally.open.total(), total, None)

    async def _put(self, question: Question, key: str) -> None:
        """Ask one question until it has an answer or its tries are spent."""
        with self._reserved(question) as affordable:
            if not affordable:
                self.tally.open["max_cost"] += 1
                return
            asked = question.asked(self._respondent.model)
            for attempt in range(1, self._limits.tries + 1):
                await self._take_turn(count_tokens(question.messages) + self._decoding.max_tokens)
                try:
                    reply = await self._respondent.ask(question.messages, question.schema)
                except NoAnswerError as failure:
                    self._ledger.fail(asked, attempt, failure.state, failure.status)
                    await self._bear(failure, attempt)
                else:
                    self._keep(question, key, asked, reply)
                    return

    async def _bear(self, failure: NoAnswerError, attempt: int) -> None:
        """Wait for the next try, leave the question open after the last, or end the run."""
        self._stop_if_refused(failure)
        if attempt < self._limits.tries:
            await self._wait(failure, attempt)
            return
        self.tally.open[failure.state] += 1
        self._left_open_in_a_row += 1
        if self._left_open_in_a_row >= self._limits.give_up_after:
            self._stop(failure)

    def _keep(self, question: Question, key: str, asked: Any, reply: Reply) -> None:
        if not reply.model:
            reply = replace(reply, model=self.snapshot)
        if reply.model != self.snapshot:
            key = question.key(reply.model, self._decoding)  # it was paid for: kept, as what it is
        self._ledger.store(key, asked, reply, question.read(reply), self._shutdown_date)
        if reply.model != self.snapshot:
            raise ContractError(
                f"{self._respondent.model} was {self.snapshot} and now answers as {reply.model}; answers of two are "
                "never mixed: run again to ask the new one"
            )
        self._left_open_in_a_row = 0
        self.tally.asked += 1
        if self._price:
            self.tally.usd += self._price.of(reply.tokens_in, reply.tokens_out)

    @contextmanager
    def _reserved(self, question: Question) -> Iterator[bool]:
        """Set aside what the longest answer costs while it is under way; False: the budget has no room for it."""
        usd = self._price.of(count_tokens(question.messages), self._decoding.max_tokens) if self._price else 0.0
        most = self._limits.max_usd
        if most is not None and self.tally.usd + self._under_way_usd + usd > most:
            yield False
            return
        self._under_way_usd += usd
        try:
            yield True
        finally:
            self._under_way_usd -= usd

    async def _take_turn(self, tokens: int) -> None:
        now = time.monotonic()
        begins = max(self._requests.reserve(1, now), self._tokens.reserve(tokens, now))
        await asyncio.sleep(begins - now)

    async def _wait(self, failure: NoAnswerError, attempt: int) -> None:
        """Wait as long as the server asks, everybody with it; else longer each time, and never in step."""
        seconds = failure.wait_seconds
        if seconds is not None:
            seconds = min(seconds, LONGEST_WAIT_SECONDS)
            self._requests.hold(time.monotonic() + seconds)
        else:
            seconds = min(self._limits.first_wait_seconds * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
            seconds *= random.uniform(0.75, 1.25)
        await asyncio.sleep(seconds)

    def _stop_if_refused(self, failure: NoAnswerError) -> None:
        if not failure.again:
            self._stop(failure)

    def _stop(self, failure: NoAnswerError) -> None:
        status = f" {failure.status}" if failure.status else ""
        raise ConfigError(
            f"{self._respondent.model} does not answer ({failure.state.strip()}{status}); "
            "check --endpoint, --model and the key, then run again: every answer so far is kept"
        )
