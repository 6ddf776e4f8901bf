"""How a ledger is opened: one writer at a time, every answer on disk before the next question is put.

A ledger is a SQLite file whose rows are added and never changed. Which tables it has is its user's business; all
keep which model stood behind a name.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from etl.errors import ConfigError, ContractError

SNAPSHOT = "outside/snapshot.sql"


@contextmanager
def open_tables(path: Path, tables: Sequence[str], made_by: str) -> Iterator[sqlite3.Connection]:
    """Open a ledger, or begin one; every statement is its own transaction, and lasts.

    Args:
        path: of the file; its lock lies beside it.
        tables: the files of sql/ that make its tables, beside `SNAPSHOT`.
        made_by: the command, as errors name it.

    Raises:
        ConfigError: another process has it open.
        ContractError: the file is no such ledger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, made_by), _connected(path) as con:
        try:
            con.execute("PRAGMA journal_mode = WAL")
            con.execute("PRAGMA synchronous = FULL")
            for table in (*tables, SNAPSHOT):
                con.executescript(files("sql").joinpath(table).read_text("utf-8"))
        except sqlite3.DatabaseError:
            raise ContractError(f"{path} is no ledger of `{made_by}`; choose another --ledger") from None
        yield con


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    con = sqlite3.connect(path, isolation_level=None)  # every statement is its own transaction
    try:
        yield con
    finally:
        con.close()


@contextmanager
def _alone(path: Path, made_by: str) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except OSError:
            raise ConfigError(f"{path} is in use by another `{made_by}`; wait for it to end") from None
        yield


def note_snapshot(con: sqlite3.Connection, requested: str, returned: str, shutdown_date: str | None) -> None:
    """Keep which model stands behind a name now."""
    con.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?)", (requested, returned, shutdown_date, now()))


def last_snapshot(con: sqlite3.Connection, requested: str) -> tuple[str, str | None] | None:
    """Return which model stood behind a name when it was last asked, and its shutdown date."""
    query = "SELECT model_returned, shutdown_date FROM snapshot WHERE model_requested = ? ORDER BY rowid DESC LIMIT 1"
    row = con.execute(query, [requested]).fetchone()
    return None if row is None else (row[0], row[1])


def now() -> str:
    """Return the moment as rows tell it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
