"""The id that an answer, its log line and its problem share."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("request_id", default=None)
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}")


def request_id() -> str | None:
    """Return this request's id, 32 hexadecimal digits; None outside of a request."""
    return _current.get()


def begin(offered: str | None) -> str:
    """Give this context an id: the caller's where it is a UUID, since any other text could be a patient's; else new."""
    known = offered is not None and _UUID.fullmatch(offered.lower())
    value = offered.lower().replace("-", "") if offered is not None and known else uuid.uuid4().hex
    _current.set(value)
    return value
