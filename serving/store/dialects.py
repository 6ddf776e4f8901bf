"""What SQLite and PostgreSQL need to keep the same promises."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

from etl.errors import ConfigError

WRITES = "rxdraft_writes"
"""Execution option of a connection whose next transaction will write: "durably" or "quickly"."""

SCHEMA = "rxdraft"
"""PostgreSQL's schema of our tables, apart from whatever else the database holds."""

BUSY_SECONDS = 10
"""Longest wait for a lock of the database; a writer holds it for milliseconds."""


def engine(url: URL, *, create: bool) -> Engine:
    """Return an engine with every promise of its dialect kept on each connection.

    Args:
        create: make a SQLite file that is missing.

    Raises:
        ConfigError: another database, no file named, a missing driver, or a folder that cannot be made.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, create)
    if url.get_backend_name() == "postgresql":
        return _postgresql(url)
    raise ConfigError(f"the store cannot be {url.get_backend_name()}; wanted sqlite:///PATH or postgresql://...")


def insert_for(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that can say what happens on a conflict, which both dialects spell alike and SQL does not."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def _sqlite(url: URL, create: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("the store must outlive the process; name a file: sqlite:///PATH")
    path = Path(url.database)
    if create:
        _make_private(path)
    elif not path.is_file():
        raise ConfigError(f"{path} is no file; name a store, or make it with `rxdraft store migrate`")
    made = create_engine(
        url, hide_parameters=True, pool_size=8, max_overflow=-1, connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(made, "connect", _set_up_sqlite)
    event.listen(made, "begin", _begin_sqlite)
    return made


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner alone, before SQLite would make it with the umask's rights."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file that can be written to") from None


def _set_up_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # or Python would begin transactions of its own, and too late
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # purged content is overwritten, not left in free pages


def _begin_sqlite(con: Connection) -> None:
    raw: Any = con.connection.driver_connection
    writes = con.get_execution_options().get(WRITES)
    if not writes:
        raw.execute("BEGIN")
        return
    # FULL: what was answered survives a power cut. NORMAL: the log reaches the disk with the next FULL commit.
    raw.execute(f"PRAGMA synchronous = {'FULL' if writes == 'durably' else 'NORMAL'}")
    raw.execute("PRAGMA busy_timeout = 1")
    try:
        _begin_immediate(raw)
    finally:
        raw.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


def _begin_immediate(connection: sqlite3.Connection) -> None:
    """Take the write lock, asking every millisecond.

    SQLite's own waiting grows to 0.1 s between two looks, so that with several busy processes the one that waits
    longest waits longer still: 0.8 s at the 99th percentile of six processes, and 0.05 s by this.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise


def _postgresql(url: URL) -> Engine:
    try:
        made = create_engine(
            url,
            hide_parameters=True,
            pool_size=8,
            max_overflow=40,
            pool_timeout=BUSY_SECONDS,
            pool_pre_ping=True,  # a connection that the server closed is replaced before anything is sent
            connect_args={"connect_timeout": 5},
        )
    except ImportError:
        raise ConfigError("PostgreSQL needs its driver; install rxdraft[postgres]") from None
    event.listen(made, "connect", _set_up_postgresql)
    event.listen(made, "begin", _begin_postgresql)
    return made


def _set_up_postgresql(connection: Any, record: Any) -> None:
    """Find our tables first, wait for no lock forever, and let no stalled process hold one."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {SCHEMA}")
        cursor.execute(f"SET lock_timeout TO '{BUSY_SECONDS}s'")
        cursor.execute(f"SET idle_in_transaction_session_timeout TO '{3 * BUSY_SECONDS}s'")
    connection.commit()


def _begin_postgresql(con: Connection) -> None:
    if con.get_execution_options().get(WRITES) == "quickly":
        con.exec_driver_sql("SET LOCAL synchronous_commit TO off")
