"""The ledger: what is in it stays, what leaves it has no text."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from etl.errors import ConfigError, ContractError
from etl.outside.endpoint import Reply
from etl.outside.reading import State
from evaluation.judge.ledger import Asked, digest, open_ledger
from evaluation.judge.protocol import Reading, Verdict

ASKED = Asked("unit-1", "judge", "p", "c", "aspirin", "draft", 0, "demo")
READING = Reading(State.ANSWERED, Verdict.APPROPRIATE, '{"derived": "appropriate"}', "CANARY", True)
REPLY = Reply("judge-2026", "CANARY", "stop", False, 7, 3, 12, '{"CANARY": 1}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "judge" / "ledger.sqlite"


def test_a_stored_verdict_is_found_by_the_next_who_opens(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.store("k", ASKED, REPLY, READING, "2027-01-14")
    with open_ledger(path) as ledger:
        found = ledger.find("k")
        assert found is not None
        assert (found.verdict, found.evidence_ok, found.model_returned) == (Verdict.APPROPRIATE, True, "judge-2026")
        assert (found.tokens_in, found.tokens_out, found.shutdown_date) == (7, 3, "2027-01-14")
        assert ledger.find("other") is None


def test_it_is_a_wal_database(path: Path) -> None:
    with open_ledger(path), sqlite3.connect(path) as con:
        assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("statement", ["DELETE FROM verdict", "UPDATE verdict SET verdict = 'inappropriate'"])
def test_no_verdict_is_removed_or_changed(path: Path, statement: str) -> None:
    with open_ledger(path) as ledger:
        ledger.store("k", ASKED, REPLY, READING, None)
    with sqlite3.connect(path) as con, pytest.raises(sqlite3.IntegrityError, match="ledger"):
        con.execute(statement)


def test_the_first_answer_to_a_question_stays(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.store("k", ASKED, REPLY, READING, None)
        ledger.store("k", ASKED, REPLY, Reading(State.ANSWERED, Verdict.INAPPROPRIATE), None)
        assert ledger.find("k").verdict is Verdict.APPROPRIATE  # type: ignore[union-attr]


def test_a_second_writer_is_told_to_wait(path: Path) -> None:
    with open_ledger(path), pytest.raises(ConfigError, match="in use"), open_ledger(path):
        pass


def test_another_file_is_no_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a,b\n" * 500)
    with pytest.raises(ContractError, match="no ledger"), open_ledger(path):
        pass


def test_a_ledger_without_its_secret_is_refused_since_its_charts_have_lost_their_names(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.store("k", ASKED, REPLY, READING, None)
    path.with_suffix(".secret").unlink()
    with pytest.raises(ContractError, match="secret"), open_ledger(path):
        pass


def test_nobody_else_may_read_the_secret(path: Path) -> None:
    with open_ledger(path):
        assert path.with_suffix(".secret").stat().st_mode & 0o077 == 0


def test_a_chart_has_one_name_here_and_another_in_another_project(path: Path, tmp_path: Path) -> None:
    with open_ledger(path) as ledger:
        here = ledger.name_context("chart")
        assert here == ledger.name_context("chart") != ledger.name_context("other chart")
    with open_ledger(path) as ledger:
        assert ledger.name_context("chart") == here
    with open_ledger(tmp_path / "elsewhere.sqlite") as other:
        assert other.name_context("chart") != here


def test_what_may_be_shared_has_no_text_and_no_key_that_could_be_guessed(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.store("the-key", ASKED, REPLY, READING, None)
        columns, rows = ledger.rows_without_text()
    assert "CANARY" not in str(rows)
    assert "the-key" not in str(rows)
    assert {"evidence", "raw_json"}.isdisjoint(columns)
    assert "appropriate" in rows[0]


def test_a_digest_depends_on_verdicts_and_not_on_their_order(path: Path) -> None:
    with open_ledger(path) as ledger:
        for key in "ab":
            ledger.store(key, ASKED, REPLY, READING, None)
        one, other = ledger.find("a"), ledger.find("b")
    assert one is not None
    assert other is not None
    assert digest([one, other]) == digest([other, one]) != digest([one])
