"""An OpenAI-compatible engine asked in training's own words: as token ids, or as messages that its template renders.

Ids are what training saw, to the token. Messages meet the server's chat template, which may print another date or
another system text; the first question finds out, before it is about a patient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from etl import prompts
from etl.artefacts import sha256
from etl.domain import Admission
from etl.errors import ConfigError
from etl.outside.endpoint import Decoding, Endpoint, NoAnswerError, Reply
from etl.outside.firewall import Passage
from etl.prompts import ChatTokenizer, Message

Way = Literal["ids", "messages"]
"""ids: POST /completions with `prompt` a list of numbers. messages: POST /chat/completions."""

NOBODY = prompts.render_prompt(Admission(diagnoses=()))
"""The first question: it has the form of every other, and no word of a patient."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question that fits.

    Attributes:
        messages: system and user.
        dropped: diagnoses that did not fit.
        asked_at: host and way.
    """

    messages: list[Message]
    dropped: int
    asked_at: str
    schema: dict[str, Any] = field(default_factory=dict)
    expected_tokens: int = 0

    def key(self, model: str, decoding: Decoding) -> str:
        """Return the digest of everything that could change the answer."""
        return sha256(json.dumps([self.asked_at, model, decoding.described(), self.messages]).encode())

    def asked(self, model: str) -> str:
        """Return the digest of what is asked."""
        return sha256(json.dumps(self.messages).encode())

    def read(self, reply: Reply) -> None:
        """Leave the reading to who asked."""


class Questions:
    """Prompts as training has them, made with the base's tokenizer."""

    def __init__(self, base: str) -> None:
        """Load the tokenizer; the weights need not be there.

        Raises:
            ConfigError: there is no tokenizer, or one without a chat template.
        """
        from training.base import load_tokenizer

        try:
            self._tokenizer: Any = load_tokenizer(Path(base))
        except (OSError, ValueError):
            raise ConfigError(
                f"{base} holds no tokenizer; give --base, the base or the folder of `rxdraft export-model`"
            ) from None

    def encode(self, messages: list[Message]) -> list[int]:
        """Return a question's token ids."""
        return prompts.encode(self._tokenizer, messages)

    def fit(self, messages: list[Message], room: int, asked_at: str) -> Prompt:
        """Drop diagnoses until a question has at most `room` tokens, by the rule of training.

        Raises:
            ConfigError: it does not fit even without any.
        """
        heard = _Heard(self._tokenizer)
        ids, dropped = prompts.encode_prompt(heard, messages, room)
        return Prompt(heard.said[tuple(ids)], dropped, asked_at)


class _Heard:
    """A tokenizer that remembers which conversation became which ids."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self.said: dict[tuple[int, ...], list[Message]] = {}

    def apply_chat_template(self, conversation: list[Message], **kwargs: Any) -> Any:
        ids = list(self._tokenizer.apply_chat_template(conversation, **kwargs))
        self.said[tuple(ids)] = conversation
        return ids


class RemoteEngine(Endpoint):
    """A model behind an OpenAI-compatible server: vLLM, llama.cpp, `transformers serve`.

    Attributes:
        host: of the server, with its port where the URL has one.
        way: how it is asked; settled by `resolve`.
    """

    def __init__(
        self,
        passage: Passage,
        model: str,
        decoding: Decoding,
        questions: Questions,
        *,
        way: Way | None = None,
        timeout_seconds: float = 120,
    ) -> None:
        """Connect to nothing yet.

        Args:
            passage, model, decoding, timeout_seconds: as of `Endpoint`.
            questions: of the checkpoint's base.
            way: None: ids where the server takes them, else messages.
        """
        super().__init__(passage, model, decoding, timeout_seconds=timeout_seconds)
        self.host = urlsplit(passage.endpoint).netloc
        self._questions = questions
        self._ways: tuple[Way, ...] = (way,) if way else ("ids", "messages")
        self.way: Way = self._ways[0]

    async def resolve(self) -> tuple[str, str | None]:
        """Settle how the server is asked; return what it calls the model, and no shutdown date.

        Raises:
            NoAnswerError: it does not answer.
            ConfigError: it reads a question otherwise than training wrote it.
        """
        for way in self._ways:
            self.way = way
            try:
                reply = await self.ask(NOBODY, None)
                break
            except NoAnswerError as refusal:
                if refusal.again or way == self._ways[-1]:
                    raise
        wanted = len(self._questions.encode(NOBODY))
        if reply.tokens_in not in (0, wanted):
            raise ConfigError(
                f"{self.model} read a question of {wanted} tokens as {reply.tokens_in}: its server has another "
                "tokenizer or chat template; have it take those of `rxdraft export-model`"
            )
        return reply.model or self.model, None

    async def _send(self, messages: list[Message], schema: dict[str, Any] | None) -> str:
        if self.way == "messages":
            return await super()._send(messages, schema)
        import httpx2

        body = {"model": self.model, "prompt": self._questions.encode(messages), "max_tokens": self.decoding.max_tokens}
        if self.decoding.temperature is not None:
            body["temperature"] = self.decoding.temperature
        return _as_chat((await self._client.post("/completions", cast_to=httpx2.Response, body=body)).text)

    def _chat_body(self, messages: list[Message], schema: dict[str, Any] | None) -> dict[str, Any]:
        # Llama 3.1's template prints today's date unless given one.
        body = {**super()._chat_body(messages, schema), "chat_template_kwargs": {"date_string": prompts.TEMPLATE_DATE}}
        del body["store"]  # OpenAI's own; other servers refuse what they do not know
        return body


def _as_chat(text: str) -> str:
    """Put a completion into the words of a chat; what is none stays as it is, for its reader to refuse."""
    try:
        answer = json.loads(text)
        for choice in answer["choices"]:
            choice["message"] = {"role": "assistant", "content": choice["text"]}
        return json.dumps(answer)
    except (ValueError, KeyError, TypeError):
        return text
