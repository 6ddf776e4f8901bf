"""One line an event, of known keys only: what is not on the list is dropped and counted.

The words of a record come from constants of ours or not at all: libraries quote requests, statements and paths.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from serving.operation import metrics
from serving.operation.request_id import request_id
from serving.settings import Settings

KEYS = frozenset(
    {
        *("event", "level", "timestamp", "logger", "request_id"),
        *("route", "method", "status", "milliseconds", "seconds", "count", "code", "reason", "outcome", "decision"),
        *("draft_id", "item_id", "key_id", "principal", "rule_id", "tier", "model", "state", "worker", "service"),
        *("version", "exc_type", "at", "attempt", "port", "waiting", "dropped", "hook"),
    }
)
"""What may stand in a line; never a name, a text, an address or an id that somebody else gave."""

_OURS = ("rxdraft", "etl", "training", "serving", "evaluation")
_WORDS_KEPT = (*_OURS, "uvicorn.error")
"""Loggers whose message is kept, from INFO up: below it, ours too may quote a prompt."""

_logger = logging.getLogger("rxdraft.events")


def event(name: str, *, level: str = "info", **facts: Any) -> None:
    """Log that something happened; keys that are not in `KEYS` are dropped.

    Args:
        name: a constant of ours, in snake case.
        level: debug, info, warning or error.
        facts: ids that we make, counts, seconds, codes.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    if _logger.isEnabledFor(number):
        kept = keep_known(None, "", facts)
        words = " ".join([name, *(f"{key}={value}" for key, value in kept.items())])  # where nothing is configured
        _logger.log(number, "%s", words, extra={"event_name": name, "facts": kept})


def configure_logs(settings: Settings) -> None:
    """Send everything logged in this process through the list, to stderr; call it once, in each process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.log_format))
    handler.addFilter(_tells_something)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if not name.startswith("rxdraft.events"):
            logger.handlers.clear()
            logger.propagate = True
    for name in ("rxdraft.events", *_OURS):
        logging.getLogger(name).setLevel(settings.log_level)


def formatter(log_format: str) -> logging.Formatter:
    """Return what turns any record, ours or a library's, into a line that holds known keys only."""
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else _plain()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[],
        processors=[_from_record, structlog.processors.TimeStamper("iso", utc=True), keep_known, renderer],
    )


def keep_known(_: Any, __: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every key that is not on the list; say how many went, here and in the metrics."""
    kept = {key: value for key, value in facts.items() if key in KEYS}
    if lost := len(facts) - len(kept):
        metrics.log_keys_dropped(lost)
        kept["dropped"] = lost
    return kept


def _from_record(_: Any, __: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = facts["_record"]
    told = {"event": _words(record, str(facts["event"])), "level": record.levelname.lower(), "logger": record.name}
    if (identity := request_id()) is not None:
        told["request_id"] = identity
    if raised := facts.get("exc_info"):
        told |= where(raised[1])
    return told | getattr(record, "facts", {})


def _words(record: logging.LogRecord, message: str) -> str:
    """Return an event's name, or the message where its words are known to be ours, else a word for it."""
    if hasattr(record, "event_name"):
        return str(record.event_name)
    if not _is_of(record, _WORDS_KEPT):
        return "library_message"
    return message if record.levelno >= logging.INFO else "debug_message"


def _tells_something(record: logging.LogRecord) -> bool:
    """Leave out what libraries chat about, since without their words it is nothing but lines."""
    return _is_of(record, _WORDS_KEPT) or record.levelno >= logging.WARNING


def _is_of(record: logging.LogRecord, loggers: tuple[str, ...]) -> bool:
    return record.name.startswith(tuple(f"{name}." for name in loggers)) or record.name in loggers


def where(error: BaseException | None) -> dict[str, Any]:
    """Return an error's kind and the innermost three places, never what it says."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return {"exc_type": type(error).__name__, "at": [f"{frame.name}:{frame.lineno}" for frame in reversed(frames)]}


def _plain() -> Any:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
