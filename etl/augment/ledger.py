"""The ledger of data growth: every answer under the digest of what was asked, for ever.

A run that is killed loses none and asks none twice; what is kept of an answer is read anew each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etl.outside import ledger
from etl.outside.endpoint import Reply

TABLES = ("augment/answer.sql", "augment/failure.sql")
GIVEN_UP = "given_up"
"""The finish reason of a request that brought nothing in all its tries."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row of the ledger says of its request."""

    prompt: str
    model_requested: str
    prompt_sha: str
    number: int
    provenance: str


class Ledger:
    """An open ledger."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con

    def find(self, key: str) -> Reply | None:
        """Return the answer to exactly this request."""
        columns = "model_returned, text, finish_reason, refused, tokens_in, tokens_out, latency_ms"
        row = self._con.execute(f"SELECT {columns} FROM answer WHERE key = ?", [key]).fetchone()
        if row is None:
            return None
        model, text, finish_reason, refused, *counts = row
        return Reply(model, text, finish_reason, bool(refused), *counts)

    def store(self, key: str, asked: Asked, reply: Reply, state: str, shutdown_date: str | None) -> None:
        """Keep an answer; on disk when this returns. One that is there already stays as it is."""
        row = (
            *(key, asked.prompt, asked.model_requested, reply.model, asked.prompt_sha, asked.number, asked.provenance),
            *(state, reply.text, reply.finish_reason, int(reply.refused)),
            *(reply.tokens_in, reply.tokens_out, reply.latency_ms, shutdown_date, ledger.now(), reply.raw),
        )
        marks = ", ".join("?" * len(row))
        self._con.execute(f"INSERT INTO answer VALUES ({marks}) ON CONFLICT DO NOTHING", row)

    def give_up(self, key: str, asked: Asked, snapshot: str) -> Reply:
        """Keep that a request brought nothing in all its tries; it is not put again."""
        nothing = Reply(snapshot, None, GIVEN_UP)
        self.store(key, asked, nothing, GIVEN_UP, None)
        return nothing

    def fail(self, asked: Asked, attempt: int, state: str, status: int | None) -> None:
        """Keep that a request brought no answer."""
        row = (asked.model_requested, asked.number, attempt, state, status, ledger.now())
        self._con.execute("INSERT INTO failure VALUES (?, ?, ?, ?, ?, ?)", row)

    def resolve(self, requested: str, returned: str, shutdown_date: str | None) -> None:
        """Keep which model stands behind a name now."""
        ledger.note_snapshot(self._con, requested, returned, shutdown_date)

    def last_snapshot(self, requested: str) -> tuple[str, str | None] | None:
        """Return which model stood behind a name when it was last asked, and its shutdown date."""
        return ledger.last_snapshot(self._con, requested)


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Open a ledger, or begin one; one writer at a time.

    Raises:
        ConfigError: another process has it open. ContractError: the file is no ledger.
    """
    with ledger.open_tables(path, TABLES, "rxdraft augment") as con:
        yield Ledger(con)
