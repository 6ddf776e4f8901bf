"""What an engine elsewhere answered: kept while a file is drafted, or just while it is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etl.outside import ledger
from etl.outside.endpoint import Reply

TOO_LONG = "too_long"
"""That the server refused a question's length: nothing it would say again with another setting."""


class Answers:
    """Answers in memory.

    Attributes:
        failed: the state of the last try, by what was asked, of what has no answer.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self._kept: dict[str, Reply] = {}

    def find(self, key: str) -> Reply | None:
        """Return the answer to exactly this question."""
        return self._kept.get(key)

    def store(self, key: str, asked: str, reply: Reply, reading: None, shutdown_date: str | None) -> None:
        """Keep an answer, but for one that says the question was too long."""
        if reply.finish_reason == TOO_LONG:
            self.failed[asked] = TOO_LONG
        else:
            self._keep(key, reply)

    def _keep(self, key: str, reply: Reply) -> None:
        self._kept[key] = reply

    def fail(self, asked: str, attempt: int, state: str, status: int | None) -> None:
        """Keep that a request brought no answer."""
        self.failed[asked] = state

    def resolve(self, requested: str, returned: str, shutdown_date: str | None) -> None:
        """Let the snapshot be: a run that goes on under another one asks anew."""

    def last_snapshot(self, requested: str) -> tuple[str, str | None] | None:
        """Return nothing: nobody estimates a cost."""
        return None


class KeptAnswers(Answers):
    """Answers in a file; on disk when `store` returns."""

    def __init__(self, con: sqlite3.Connection) -> None:
        super().__init__()
        self._con = con

    def find(self, key: str) -> Reply | None:
        """Return the answer to exactly this question."""
        row: Any = self._con.execute("SELECT text, finish_reason, refused FROM answer WHERE key = ?", [key]).fetchone()
        return None if row is None else Reply("", row[0], row[1], bool(row[2]))

    def _keep(self, key: str, reply: Reply) -> None:
        row = (key, reply.text, reply.finish_reason, int(reply.refused))
        self._con.execute("INSERT INTO answer VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


@contextmanager
def open_answers(path: Path) -> Iterator[KeptAnswers]:
    """Open a file of answers, or begin one; one writer at a time.

    Raises:
        ConfigError: another process has it open.
        ContractError: the file is none.
    """
    with ledger.open_tables(path, ("predict/answer.sql",), "rxdraft predict") as con:
        yield KeptAnswers(con)
