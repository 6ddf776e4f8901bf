"""A checkpoint that another program serves: an OpenAI-compatible engine writes the list, all else is as here.

The checkpoint gives prompts, vocabulary and formulary. The answer is read as it was written; drugs outside the
formulary are left out of the draft, and `serving.batch.rows.left_out` counts them.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import wait
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from etl import prompts
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from etl.outside.ask import Interview, Limits
from etl.outside.endpoint import Decoding, Reply
from etl.outside.firewall import Passage
from serving.batch.rows import Unanswered
from serving.recommendation import BusyError, LateError, NoReplyError, Recommendation
from serving.remote.answers import Answers, open_answers
from serving.remote.engine import Prompt, Questions, RemoteEngine, Way
from serving.schemas import RemoteIdentity
from serving.vocabulary import Vocabulary, read_vocabulary
from training.manifest import Manifest, read_manifest

MOST_WAITING = 256
"""Drafts asked for one by one that may be under way."""

_LOOK_SECONDS = 0.2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked, and how hard it may be pressed.

    Attributes:
        passage: that the admissions may go there.
        model: as the server names it.
        way: None: ids where the server takes them, else messages.
        ledger: file that keeps the answers; None: memory, while a draft is made.
    """

    passage: Passage
    model: str
    way: Way | None = None
    limits: Limits = field(default_factory=Limits)
    timeout_seconds: float = 120
    ledger: Path | None = None


class RemoteRecommender:
    """A checkpoint's prompts and vocabulary, and a server that answers.

    Attributes:
        answered: told, from another thread, how many admissions of an `attempt` are done.
    """

    def __init__(self, checkpoint: Path, server: Server, base: str | None = None) -> None:
        """Load the tokenizer, and see that the server answers.

        Args:
            checkpoint: folder made by `rxdraft train`; its weights are not read.
            server: who is asked.
            base: folder or hub id with the base's tokenizer; None: where the manifest says it lay.

        Raises:
            ConfigError: the server does not answer, or reads a question otherwise than training wrote it.
            ContractError: the checkpoint is damaged, or of another prompt version.
        """
        self.manifest = checked_manifest(checkpoint)
        self.vocabulary: Vocabulary = read_vocabulary(checkpoint, self.manifest)
        self.server = server
        self._questions = Questions(base or self.manifest.base)
        self._decoding = Decoding(0.0, self.manifest.max_answer_tokens)
        self._known = frozenset(self.vocabulary.formulary)
        self._under_way = 0
        self.answered: Callable[[int], None] = lambda answers: None
        self._open = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="remote engine", daemon=True).start()
        try:
            self._run(self._connect())
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> None:
        server = self.server
        self._engine = RemoteEngine(
            *(server.passage, server.model, self._decoding, self._questions),
            way=server.way,
            timeout_seconds=server.timeout_seconds,
        )
        self._ledger = self._open.enter_context(open_answers(server.ledger)) if server.ledger else None
        first = Interview(self._engine, self._decoding, Answers(), server.limits)
        await self._open.enter_async_context(first)
        self._snapshot = first.snapshot

    def close(self) -> None:
        """Let the connections go."""
        self._run(self._open.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def identity(self) -> RemoteIdentity:
        """What each draft names as its model."""
        return RemoteIdentity(
            **{name: getattr(self.manifest, name) for name in ("base", "rank", "step", "prompt_version")},
            adapter_sha256=self.manifest.weights_sha256,
            formulary_sha256=self.manifest.formulary_sha256,
            endpoint=self._engine.host,
            served_as=self._snapshot,
            asked_in=self._engine.way,
        )

    def attempt(self, admissions: Sequence[Admission]) -> list[Recommendation | Unanswered]:
        """Have a list written for each admission, many at once; what the ledger answers is not asked.

        Raises:
            ConfigError: an admission has no diagnosis to go by; or the server refuses, or has stopped answering.
            ContractError: another model began to answer.
        """
        questions = [self._question(admission) for admission in admissions]
        return self._run(self._put(questions, self._ledger or Answers(), self.server.limits, self.answered))

    def recommend(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        """Have a list written for each admission.

        Raises:
            BusyError: one got no answer.
            ConfigError, ContractError: as of `attempt`.
        """
        return [_answered(one) for one in self.attempt(admissions)]

    async def draft(self, admission: Admission, seconds: float) -> Recommendation:
        """Have a list written for one of many that ask at once; cancelling gives the request up.

        Args:
            admission: with a diagnosis.
            seconds: until `LateError`.

        Raises:
            ConfigError: the admission has no diagnosis to go by, or the server refuses.
            BusyError: too many ask at once, or the server gives no answer.
            LateError: it takes too long.
        """
        if self._under_way >= MOST_WAITING:
            raise BusyError(f"{self._under_way} drafts are under way; ask again later")
        self._under_way += 1
        try:
            question = await asyncio.to_thread(self._question, admission)
            alone = self._put([question], Answers(), replace(self.server.limits, concurrency=1), lambda answers: None)
            waiting = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(alone, self._loop))
            [answer] = await asyncio.wait_for(waiting, None if math.isinf(seconds) else seconds)
        except TimeoutError:
            raise LateError("the engine did not answer in time") from None
        finally:
            self._under_way -= 1
        return _answered(answer)

    def _question(self, admission: Admission) -> Prompt:
        if not admission.diagnoses and admission.earlier_diagnoses is None:
            raise ConfigError("an admission without a diagnosis; wanted at least one")
        room = self.manifest.max_length - self.manifest.max_answer_tokens
        asked_at = f"{self._engine.host} {self._engine.way}"
        return self._questions.fit(prompts.render_prompt(admission), room, asked_at)

    async def _put(
        self, questions: Sequence[Prompt], answers: Answers, limits: Limits, told: Callable[[int], None]
    ) -> list[Recommendation | Unanswered]:
        interview = Interview(self._engine, self._decoding, answers, limits)
        interview.snapshot = self._snapshot
        await interview.put([_ready(question) for question in questions], lambda done, total, note: told(done))
        return [self._read(question, answers) for question in questions]

    def _read(self, question: Prompt, answers: Answers) -> Recommendation | Unanswered:
        reply = answers.find(question.key(self._snapshot, self._decoding))
        if reply is None:
            return Unanswered(answers.failed.get(question.asked(""), "not_asked"))
        answer = _parse(reply)
        listed = tuple(drug for drug in answer.drugs if drug in self._known)
        return Recommendation(replace(answer, drugs=listed), reply.text or "", question.dropped)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for what the connections' own thread does; an interrupt ends it there too."""
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not waiting.done():  # an interrupt may not wake a thread that waits for good
                wait([waiting], timeout=_LOOK_SECONDS)
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise


def checked_manifest(checkpoint: Path) -> Manifest:
    """Read the manifest of a checkpoint whose lists another program can write.

    Raises:
        ContractError: there is none, or its prompts are of another version than this code's.
        ConfigError: the checkpoint writes no lists.
    """
    manifest = read_manifest(checkpoint)
    if manifest.prompt_version != prompts.VERSION:
        raise ContractError(
            f"{checkpoint} was trained with prompt version {manifest.prompt_version}, "
            f"this rxdraft renders {prompts.VERSION}; train again or install the matching version"
        )
    if manifest.objective != "list":
        raise ConfigError(f"{checkpoint} is a label model, which writes no list; leave --endpoint out")
    return manifest


def _parse(reply: Reply) -> prompts.Answer:
    if reply.refused or reply.finish_reason == "content_filter":
        return prompts.Answer(prompts.Outcome.REFUSAL)
    return prompts.parse_answer(reply.text or "", truncated=reply.finish_reason == "length")


def _answered(one: Recommendation | Unanswered) -> Recommendation:
    if isinstance(one, Unanswered):
        raise NoReplyError(f"the engine gives no answer ({one.state}); ask again later")
    return one


def _ready(question: Prompt) -> Callable[[], Prompt]:
    return lambda: question
