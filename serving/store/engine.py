"""Open the store: one engine for SQLite or PostgreSQL, transactions whose failures are StoreErrors.

Of SQLite several processes may share one file, on one machine and a local disk; PostgreSQL serves several machines.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from etl.errors import ConfigError
from serving.store import dialects, migrate, secret
from serving.store.errors import StoreError
from serving.store.faults import as_store_errors

LEAST_FREE_BYTES = 2**20
"""A SQLite store on a disk with less is not ready: some dozen drafts later it would refuse."""


class Store:
    """A database at its newest schema; thread-safe, one for a process.

    Attributes:
        engine: SQLAlchemy's.
        secret: 32 bytes that key the hashes of ids; see `keyed`.
        name: the URL without its password, and without its query, where one may stand too; for messages.
    """

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self.engine = engine
        self.name = engine.url.set(query={}).render_as_string(hide_password=True)
        self.now = now
        self.secret = b""
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else None

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """Lend a connection that writes: committed at the block's end, rolled back on any error.

        On SQLite one writer at a time, across threads and processes. On PostgreSQL rows are locked as they are
        touched, and the audit trail last of all: append to it at the end of the block.

        Args:
            durable: wait until the disk has it. Without, no crash of ours loses it, but a power cut may take the last
                moments: for what nobody relies on after one, as counters and leases.

        Raises:
            StoreError: the database is unreachable, locked, full or read-only.
        """
        with as_store_errors(self.name), self._own_turn(), self.engine.connect() as con:
            con = con.execution_options(**{dialects.WRITES: "durably" if durable else "quickly"})
            with con.begin():
                yield con

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection that only reads, all of it from one moment; it never waits for a writer.

        Raises:
            StoreError: the database is unreachable or damaged.
        """
        with as_store_errors(self.name), self.engine.connect() as con:
            # SQLite calls it SERIALIZABLE and has nothing else.
            yield con if self._turn else con.execution_options(isolation_level="REPEATABLE READ")

    def check(self) -> None:
        """See that the store answers, has the schema of this version and room to write, for a readiness probe.

        Nothing is written, so that a probe does not wait for writers. How full a PostgreSQL server's disk is, its first
        refusal tells.

        Raises:
            StoreError: it does not.
        """
        with self.reading() as con:
            migrate.check(con, self.name)
        if self._turn and shutil.disk_usage(Path(str(self.engine.url.database)).parent).free < LEAST_FREE_BYTES:
            raise StoreError(f"store {self.name}: the disk is full; free space")

    def keyed(self, text: str) -> str:
        """Return the HMAC-SHA256 of an id, in hex: the same for the same id in this store, meaningless outside."""
        return hmac.new(self.secret, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def close(self) -> None:
        """Close every connection; the store opens new ones when it is used again."""
        self.engine.dispose()

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """Let this process's threads queue here, so that one at a time asks SQLite for its lock."""
        if self._turn is None:
            yield
        elif not self._turn.acquire(timeout=dialects.BUSY_SECONDS):
            raise StoreError(f"store {self.name}: too many wait to write; try again")
        else:
            try:
                yield
            finally:
                self._turn.release()


def utc_now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


def open_store(url: str, *, upgrade: bool = True, now: Callable[[], datetime] = utc_now) -> Store:
    """Open a store and bring its schema up to date; a SQLite file is made where none is, for its owner's eyes only.

    Args:
        url: as `location.store_url` returns it.
        upgrade: False makes and changes nothing.
        now: the clock.

    Raises:
        ConfigError: the URL is none of SQLite or PostgreSQL, its driver is missing, the folder cannot be made,
            or $RXDRAFT_SECRET is not the one that this store was made with; with upgrade=False, the file is missing.
        StoreError: the database does not answer, or was made by a newer version of rxdraft; with upgrade=False, or
            by an older one.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("the store's URL cannot be read; wanted sqlite:///PATH or postgresql://...") from None
    store = Store(dialects.engine(parsed, create=upgrade), now)
    if upgrade:
        with store.transaction() as con:
            migrate.upgrade(con, store.name)
            store.secret = secret.make_or_read(con)
    else:
        with store.reading() as con:
            migrate.check(con, store.name)
            store.secret = secret.read(con)
    return store
