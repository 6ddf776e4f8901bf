"""Read an answer as an object of one shape: exactly that, or what it is instead. Total: no answer raises."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from etl.outside.endpoint import Reply

_Shape = TypeVar("_Shape", bound=BaseModel)


class State(StrEnum):
    """What an answer turned out to be; every one but ANSWERED is an error."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    MALFORMED = "malformed"
    TOO_LONG = "too_long"


_FINISHES = {"length": State.TRUNCATED, "content_filter": State.CONTENT_FILTER, "too_long": State.TOO_LONG}


def read_shape(reply: Reply, shape: type[_Shape]) -> _Shape | State:
    """Return the answer as an object of `shape`, without coercion, or the state that says why it is none."""
    if reply.finish_reason in _FINISHES:
        return _FINISHES[reply.finish_reason]
    if reply.refused:
        return State.REFUSAL
    try:
        return shape.model_validate_json(_unfenced(reply.text or ""), strict=True)
    except ValidationError:
        return State.MALFORMED


_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


def _unfenced(text: str) -> str:
    """Take off a Markdown fence: local servers without constrained decoding answer so."""
    match = _FENCE.fullmatch(text)
    return match[1] if match else text
