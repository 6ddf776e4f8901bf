"""What an endpoint is, before and beside its faults: keys, the other API, the missing package."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from etl.errors import ConfigError
from etl.outside.endpoint import Decoding, Endpoint, Reply, _wait_seconds
from etl.outside.firewall import Passage, Provenance
from tests.etl.outside.fake_server import FakeServer

REMOTE = Passage(Provenance.DEMO, "https://judge.example.org/v1", local=False)
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
MESSAGES = [{"role": "user", "content": "hello"}]


def test_a_server_elsewhere_without_a_key_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Endpoint(REMOTE, "m", Decoding())


def test_without_openai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"rxdraft\[judge\]"):
        Endpoint(REMOTE, "m", Decoding())


def response(content: list[dict[str, Any]], status: str = "completed", why: str | None = None) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "model": "judge-1-2026",
        "status": status,
        "incomplete_details": {"reason": why} if why else None,
        "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": content}],
        "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13},
    }


def ask(server: FakeServer, answer: Mapping[str, Any]) -> Reply:
    server.answer = lambda body: (200, {}, json.dumps(answer).encode())
    server.probe_is_easy = False
    passage = Passage(Provenance.DEMO, server.url, local=True)
    endpoint = Endpoint(passage, "judge-1", Decoding(max_tokens=77), api="responses")

    async def once() -> Reply:
        try:
            return await endpoint.ask(MESSAGES, SCHEMA)
        finally:
            await endpoint.close()

    return asyncio.run(once())


TEXT = {"type": "output_text", "text": json.dumps({"word": "yes"}), "annotations": []}


def test_the_responses_api_is_asked_in_its_own_words_and_stores_nothing(server: FakeServer) -> None:
    reply = ask(server, response([TEXT]))
    assert (reply.text, reply.finish_reason, reply.model) == (TEXT["text"], "stop", "judge-1-2026")
    assert (reply.tokens_in, reply.tokens_out) == (9, 4)
    [body] = server.questions
    assert (body["store"], body["max_output_tokens"], body["temperature"]) == (False, 77, 0)
    assert body["text"]["format"]["strict"] is True
    assert "messages" not in body


@pytest.mark.parametrize(
    ("answer", "finish", "refused"),
    [
        (response([TEXT], "incomplete", "max_output_tokens"), "length", False),
        (response([], "incomplete", "content_filter"), "content_filter", False),
        (response([{"type": "refusal", "refusal": "no"}]), "stop", True),
    ],
)
def test_the_responses_apis_ends_are_told_in_the_same_words(
    answer: dict[str, Any], finish: str, refused: bool, server: FakeServer
) -> None:
    reply = ask(server, answer)
    assert (reply.finish_reason, reply.refused) == (finish, refused)


def test_retry_after_may_be_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    wait = _wait_seconds({"retry-after": format_datetime(soon, usegmt=True)})
    assert wait is not None
    assert 27 <= wait <= 30


@pytest.mark.parametrize("value", ["soon", "", "-5"])
def test_an_unreadable_or_past_retry_after_is_no_wait(value: str) -> None:
    assert _wait_seconds({"retry-after": value}) in (None, 0.0)
