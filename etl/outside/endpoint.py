"""An OpenAI-compatible server, one request at a time: OpenAI, Azure, vLLM, `transformers serve`.

What comes back is a `Reply`, or a `NoAnswerError` that says whether to ask again. No message repeats what the server
said: servers echo what they were sent. Nothing is stored there (`store=False`), no redirect is followed, and what
goes to this machine goes through no proxy.
"""

from __future__ import annotations

import email.utils
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from etl.errors import ConfigError
from etl.outside.firewall import Passage
from etl.prompts import Message


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is drawn; part of every key.

    Attributes:
        temperature: 0 is the most likely word each time; None: the server's own, for models that take no other.
        max_tokens: of an answer; one that is longer is truncated.
    """

    temperature: float | None = 0.0
    max_tokens: int = 400

    def described(self) -> dict[str, Any]:
        """Return the parameters as they are sent."""
        sent: dict[str, Any] = {"max_completion_tokens": self.max_tokens}
        return sent if self.temperature is None else {**sent, "temperature": self.temperature}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over the wire.

    Attributes:
        model: as the server names itself: the snapshot behind an alias; "" where it does not say.
        text: the answer; None where there is none.
        finish_reason: "stop", "length", "content_filter", ...; "too_long" where the server refused the length.
        refused: the server says the model refused.
        tokens_in, tokens_out: as billed; 0 where the server does not say.
        raw: the whole answer as JSON; may repeat what was asked.
    """

    model: str
    text: str | None
    finish_reason: str | None = None
    refused: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: int = 0
    raw: str = "{}"


class NoAnswerError(Exception):
    """A request brought no answer.

    Attributes:
        state: rate_limited, server_error, timeout, unreachable, not_a_completion, or rejected.
        status: of HTTP, where there was one.
        wait_seconds: what the server asks for; None: nothing.
        again: asking again may help.
    """

    def __init__(
        self, state: str, status: int | None = None, wait_seconds: float | None = None, *, again: bool = True
    ) -> None:
        super().__init__(state)
        self.state, self.status, self.wait_seconds, self.again = state, status, wait_seconds, again


class Respondent(Protocol):
    """Whoever answers questions: a server, or a stand-in."""

    model: str

    async def ask(self, messages: list[Message], schema: dict[str, Any]) -> Reply:
        """Answer once, or raise `NoAnswerError`."""
        ...

    async def resolve(self) -> tuple[str, str | None]:
        """Return the snapshot behind the model's name, and its shutdown date if the server tells one."""
        ...

    async def close(self) -> None:
        """Let the connections go."""
        ...


class Endpoint:
    """A model behind an OpenAI-compatible server."""

    def __init__(
        self,
        passage: Passage,
        model: str,
        decoding: Decoding,
        *,
        timeout_seconds: float = 120,
        api_key: str | None = None,
        api: str = "chat",
    ) -> None:
        """Connect to nothing yet.

        Args:
            passage: that the data may go there.
            model: as the server names it.
            decoding: how answers are drawn.
            timeout_seconds: of one request.
            api_key: None: OPENAI_API_KEY of the environment; a local server is sent no key.
            api: "chat" for chat completions, "responses" for OpenAI's own newer API.

        Raises:
            ConfigError: no key for a server elsewhere, or openai is not installed.
        """
        try:
            import openai
        except ImportError:
            raise ConfigError("asking a server needs the openai package: pip install 'rxdraft[judge]'") from None
        for name in ("openai", "httpx2", "httpcore2"):  # what they tell at DEBUG is not ours to promise
            logging.getLogger(name).setLevel(logging.WARNING)
        self._openai = openai
        self.model, self.decoding, self._api = model, decoding, api
        try:
            self._client = openai.AsyncOpenAI(
                base_url=passage.endpoint,
                api_key=api_key or ("none" if passage.local else None),
                max_retries=0,  # who retries must count
                timeout=timeout_seconds,
                # A proxy of the environment is another machine, and so may be the target of a redirect.
                http_client=openai.DefaultAsyncHttpx2Client(trust_env=not passage.local, follow_redirects=False),
            )
        except openai.OpenAIError:
            raise ConfigError(f"{passage.endpoint} needs a key; set OPENAI_API_KEY") from None

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.close()

    async def resolve(self) -> tuple[str, str | None]:
        """Return the snapshot behind the model's name, and its shutdown date if the server tells one.

        The question it asks holds no word of a patient.

        Raises:
            NoAnswerError: the server does not answer.
        """
        reply = await self.ask([{"role": "user", "content": "Answer with the word ready."}], None)
        try:
            described = await self._client.models.retrieve(self.model)
        except (self._openai.APIError, ValueError, AttributeError):  # many servers have no such page
            return reply.model, None
        shutdown = getattr(described, "shutdown_date", None)
        return reply.model, None if shutdown is None else str(shutdown)

    async def ask(self, messages: list[Message], schema: dict[str, Any] | None) -> Reply:
        """Put one question.

        Raises:
            NoAnswerError: no answer came; a refusal or a truncated answer is one.
        """
        began = time.perf_counter()
        try:
            text = await self._send(messages, schema)
        except self._openai.APIStatusError as error:
            return _read_status(error)
        except self._openai.APITimeoutError:
            raise NoAnswerError("timeout") from None
        except self._openai.APIError:
            raise NoAnswerError("unreachable") from None
        latency_ms = round(1000 * (time.perf_counter() - began))
        read = _read_chat if self._api == "chat" else _read_response
        try:
            return read(text, latency_ms)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):  # another kind of page, with status 200
            raise NoAnswerError("not_a_completion", 200) from None

    async def _send(self, messages: list[Message], schema: dict[str, Any] | None) -> str:
        import httpx2

        path = "/chat/completions" if self._api == "chat" else "/responses"
        body = self._chat_body(messages, schema) if self._api == "chat" else self._response_body(messages, schema)
        response = await self._client.post(path, cast_to=httpx2.Response, body=body)
        return response.text

    def _chat_body(self, messages: list[Message], schema: dict[str, Any] | None) -> dict[str, Any]:
        body = {"model": self.model, "messages": messages, "store": False, **self.decoding.described()}
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        return {**body, "response_format": form} if schema else body

    def _response_body(self, messages: list[Message], schema: dict[str, Any] | None) -> dict[str, Any]:
        body = {"model": self.model, "input": messages, "store": False, **self.decoding.described()}
        body["max_output_tokens"] = body.pop("max_completion_tokens")
        form = {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}
        return {**body, "text": {"format": form}} if schema else body


def _read_chat(text: str, latency_ms: int) -> Reply:
    """Read a chat completion, as leniently as servers differ; no choice at all is an empty answer."""
    answer = json.loads(text)
    choice: dict[str, Any] = (answer["choices"] or [{"message": {}}])[0]
    message, usage = choice["message"], answer.get("usage") or {}
    counts = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    finish, refused = choice.get("finish_reason"), bool(message.get("refusal"))
    return Reply(str(answer["model"]), message.get("content"), finish, refused, *counts, latency_ms, text)


def _read_response(text: str, latency_ms: int) -> Reply:
    """Read an answer of the responses API, in the words of chat completions."""
    answer = json.loads(text)
    parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    why = (answer.get("incomplete_details") or {}).get("reason")
    finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(str(why), "stop")
    said = "".join(part["text"] for part in parts if part["type"] == "output_text")
    usage = answer.get("usage") or {}
    counts = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    refused = any(part["type"] == "refusal" for part in parts)
    return Reply(str(answer["model"]), said or None, finish, refused, *counts, latency_ms, text)


_CODES = {"content_filter": "content_filter", "context_length_exceeded": "too_long"}
"""Error codes that are answers: about this question, not about the server."""


def _read_status(error: Any) -> Reply:
    """Return what an HTTP error says about the question, its model unnamed, or raise what it says about the server."""
    status, code = error.status_code, str(error.code or "")
    if status == 400 and code in _CODES:
        return Reply("", None, _CODES[code])
    wait = _wait_seconds(error.response.headers)
    if status == 429 and code != "insufficient_quota":
        raise NoAnswerError("rate_limited", status, wait) from None
    if status in (408, 409) or status >= 500:
        raise NoAnswerError("server_error", status, wait) from None
    raise NoAnswerError("rejected " + _plain(code, error.param), status, again=False) from None


def _plain(*words: Any) -> str:
    """Keep the words of an error that are identifiers: a code or a parameter's name, never a sentence."""
    return " ".join(str(word) for word in words if word and re.fullmatch(r"[a-z_.]{1,40}", str(word)))


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in milliseconds, in seconds or as a date.

    >>> _wait_seconds({"retry-after-ms": "1500"}), _wait_seconds({"retry-after": "2"}), _wait_seconds({})
    (1.5, 2.0, None)
    """
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * factor)
        except (KeyError, ValueError):
            continue
    try:
        until = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
