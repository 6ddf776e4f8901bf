"""Logs: what is not on the list never reaches a line, whoever logs it and however."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from serving.operation import logs, metrics
from serving.operation.logs import KEYS, configure_logs, event
from serving.settings import Settings

CANARY = "CANARY Hong Gildong"


@pytest.fixture(scope="module")
def lines() -> Iterator[io.StringIO]:
    """What the configured root handler writes; everything is put back afterwards."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("rxdraft", "etl", "training", "serving", "evaluation")}
    written = io.StringIO()
    configure_logs(Settings(log_level="DEBUG"))
    root.handlers[0].setStream(written)
    yield written
    root.handlers[:], level = kept
    root.setLevel(level)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def told(lines: io.StringIO) -> list[dict]:
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    lines.seek(0)
    lines.truncate()
    return found


def dropped() -> float:
    return next(iter(metrics._dropped_keys.collect())).samples[0].value


def test_known_keys_stand_in_the_line_and_others_are_counted(lines):
    before = dropped()
    event("draft_made", draft_id="d1", count=3, patient=CANARY, drugs=[CANARY])
    [line] = told(lines)
    assert line.keys() == {"event", "level", "logger", "timestamp", "draft_id", "count", "dropped"}
    assert (line["event"], line["draft_id"], line["dropped"]) == ("draft_made", "d1", 2)
    assert dropped() == before + 2


@given(facts=st.dictionaries(st.text(max_size=10).filter(lambda key: key not in KEYS), st.just(CANARY), max_size=4))
def test_no_unknown_key_passes(lines, facts):
    event("x", **{key: value for key, value in facts.items() if key not in ("name", "level")})
    assert CANARY not in lines.getvalue()
    told(lines)


@pytest.mark.parametrize(
    "name", ["httpx", "httpx2", "sqlalchemy.engine", "uvicorn.access", "uvicorn.asgi", "asyncio", ""]
)
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_libraries_words_never_pass(lines, name, level):
    logging.getLogger(name).log(level, "GET /%s", CANARY, extra={"body": CANARY, "draft_id": CANARY})
    logging.getLogger(name).log(level, f"GET /{CANARY}")
    assert CANARY not in lines.getvalue()
    assert len(told(lines)) == (2 if level >= logging.WARNING else 0)


def test_our_own_words_pass_from_info_up_only(lines):
    ours = logging.getLogger("serving.somewhere")
    ours.info("%d drugs", 3)
    ours.debug("the prompt is %s", CANARY)
    assert [line["event"] for line in told(lines)] == ["3 drugs", "debug_message"]


def test_an_exception_is_told_by_kind_and_place_only(lines):
    def looks_up() -> None:
        raise KeyError(CANARY)

    for name in ("uvicorn.error", "serving.x", "rxdraft.events", "a.library"):
        try:
            looks_up()
        except KeyError:
            logging.getLogger(name).exception("it failed")
    found = told(lines)
    assert all(line["exc_type"] == "KeyError" and line["at"][0].startswith("looks_up:") for line in found)
    assert len(found) == 4
    assert CANARY not in str(found)


def test_a_databases_error_tells_no_values(lines):
    try:
        with create_engine("sqlite://").connect() as con:
            con.execute(text("SELECT :name FROM nowhere"), {"name": CANARY})
    except SQLAlchemyError:
        logging.getLogger("serving.x").exception("the store failed")
    assert CANARY not in lines.getvalue()
    assert told(lines)[0]["exc_type"] == "OperationalError"


def test_a_line_is_a_line(lines):
    event("x", reason='a\nb", "level": "forged')
    [line] = told(lines)
    assert line["level"] == "info"


def test_without_configuration_an_event_is_told_with_its_known_facts_alone(caplog):
    with caplog.at_level(logging.INFO, "rxdraft.events"):
        event("draft_made", count=3, drugs=[CANARY])
    assert "draft_made count=3 dropped=1" in caplog.text
    assert CANARY not in caplog.text


def test_text_lines_hold_no_more_than_json_ones():
    record = logging.LogRecord("a.library", logging.ERROR, "", 1, CANARY, (), None)
    assert CANARY not in logs.formatter("text").format(record)
