"""A SQLite store copied while it is in use, and put back. PostgreSQL has pg_dump and its own archiving for this."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from etl.artefacts import whole_or_absent
from etl.errors import ConfigError
from serving.store.dialects import BUSY_SECONDS
from serving.store.engine import Store, open_store
from serving.store.errors import StoreError
from serving.store.faults import as_store_errors
from serving.store.records import Verification
from serving.store.verification import verify


def backup(store: Store, out: Path) -> Verification:
    """Copy the store as it is at one moment into one file, and verify the copy; writers go on meanwhile.

    Args:
        out: a new file, readable by its owner alone; it holds patients' data and the store's secret.

    Raises:
        ConfigError: the store is not SQLite, or `out` exists.
        StoreError: it cannot be read, or the copy does not verify.
    """
    _refuse_existing(out)
    if store.engine.dialect.name != "sqlite":
        raise ConfigError(f"store {store.name} is not SQLite; use pg_dump")
    return _copy(Path(str(store.engine.url.database)), out)


def restore(copy: Path, url: str) -> Verification:
    """Make a store out of a backup, and verify it.

    Args:
        url: of a SQLite store that does not exist yet.

    Raises:
        ConfigError: the backup is missing, or a store stands at the URL.
        StoreError: the backup is damaged or does not verify; nothing is made.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise ConfigError(f"a backup becomes a SQLite store, not {parsed.get_backend_name()}; use pg_restore there")
    if not copy.is_file():
        raise ConfigError(f"{copy} is no file; name a backup made by `rxdraft store backup`")
    target = Path(str(parsed.database))
    for beside in ("", "-wal", "-shm"):
        _refuse_existing(target.with_name(target.name + beside))
    return _copy(copy, target)


def _copy(source: Path, out: Path) -> Verification:
    with whole_or_absent(out) as new:
        os.close(os.open(new, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600))
        with as_store_errors(f"sqlite:///{source}"):
            _copy_pages(source, new)
            found = _verified(new)
            _settle(new)
        if found.problems:
            raise StoreError(f"store sqlite:///{source}: {found.problems[0]}")
    return found


def _copy_pages(source: Path, out: Path) -> None:
    """Copy in one step: by several, every write in between would begin the copy anew."""
    reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
    with closing(reading), closing(sqlite3.connect(out)) as writing:
        reading.backup(writing)
        [damage] = writing.execute("PRAGMA quick_check(1)").fetchone()
        ours = writing.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit_events'").fetchone()
    if damage != "ok" or not ours:
        raise StoreError(f"{source} is {'no store of rxdraft' if damage == 'ok' else 'damaged'}; name another backup")


def _verified(copy: Path) -> Verification:
    store = open_store(f"sqlite:///{copy.absolute()}")  # and brought up to date, if the backup is an old one
    try:
        return verify(store)
    finally:
        store.close()


def _settle(copy: Path) -> None:
    """Leave one file on the disk itself, with nothing beside it."""
    with closing(sqlite3.connect(copy)) as con:
        con.execute("PRAGMA journal_mode = DELETE")
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} exists; move it away, or name another")
