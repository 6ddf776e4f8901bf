"""Where the store is: one default for the server and for every command."""

from __future__ import annotations

import os
from pathlib import Path


def store_url(given: str | None = None) -> str:
    """Return the store's URL: the one given, else $RXDRAFT_STORE, else a file in the user's data folder.

    A plain path means SQLite; `postgresql://` is read as `postgresql+psycopg://`, the driver we ship with.
    A password is better put into $RXDRAFT_STORE or ~/.pgpass than on the command line, where `ps` shows it.

    >>> store_url("postgresql://rx@db/rx")
    'postgresql+psycopg://rx@db/rx'
    >>> store_url("/srv/rx.sqlite3")
    'sqlite:////srv/rx.sqlite3'
    """
    named = given or os.environ.get("RXDRAFT_STORE") or str(default_path())
    if "://" not in named:
        return f"sqlite:///{Path(named).expanduser().absolute()}"
    scheme, _, rest = named.partition("://")
    return f"{'postgresql+psycopg' if scheme in ('postgresql', 'postgres') else scheme}://{rest}"


def default_path() -> Path:
    """Return the SQLite file that is used where nothing is named, by the XDG rules."""
    data = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return folder / "rxdraft" / "rxdraft.sqlite3"
