"""Tell a database that fails from a mistake of ours: the one is a StoreError, the other keeps its traceback."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from serving.store.errors import StoreError

_MISTAKES = (IntegrityError, ProgrammingError, DataError)

# SQLite's error names by their beginning and PostgreSQL's states by their class, with what to do.
_TOLD = {
    "SQLITE_FULL": "the disk is full; free space",
    "SQLITE_BUSY": "it is locked; see which other program holds it",
    "SQLITE_LOCKED": "it is locked; see which other program holds it",
    "SQLITE_READONLY": "it may not be written to; see the rights of the file and of its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; see that its folder is there and may be written to",
    "SQLITE_IOERR": "the disk does not read or write; see the disk",
    "SQLITE_CORRUPT": "the file is damaged; restore a backup with `rxdraft store restore`",
    "SQLITE_NOTADB": "the file is no SQLite database; name another",
    "08": "the server does not answer; see that it runs",
    "28": "the server refuses the user or password; see the URL",
    "3D": "the server has no such database; create it",
    "53": "the server is out of disk, memory or connections",
    "55P03": "a lock was not free in time",
    "57P": "the server is stopping or starting",
    "25006": "the server takes no writes; see that it is the primary",
}


@contextmanager
def as_store_errors(name: str) -> Iterator[None]:
    """Turn failures of the database into StoreErrors that name the store and the cause, never a value.

    Args:
        name: the store's URL without a password.
    """
    try:
        yield
    except _MISTAKES:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        raise StoreError(f"store {name}: {_told(error)}") from None
    except PoolTimeoutError:
        raise StoreError(f"store {name}: every connection is in use; try again") from None


def _told(error: DBAPIError | sqlite3.Error) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    if code is None:
        return _TOLD["08"]
    return next((f"{told} ({code})" for start, told in _TOLD.items() if code.startswith(start)), f"it failed ({code})")
