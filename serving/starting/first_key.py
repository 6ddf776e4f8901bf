"""The key of the first start: shown on a terminal, else kept in a file, since a journal keeps what it is told."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from etl.errors import ConfigError
from serving.access.keys import make_key
from serving.access.principal import Role
from serving.store.keys import Keys
from serving.store.location import default_path
from serving.store.records import StoredKey

NAME = "first-key"
"""Of the file, beside the store."""


def first_key(keys: Keys, store_url: str, terminal: bool) -> str:
    """Make a clinician's key, and return the line that says what it is, or where.

    Args:
        keys: take it.
        store_url: a file's folder gets the key's file too; of a database elsewhere the user's data folder does.
        terminal: whether somebody reads the line at once; then no file is written.

    Raises:
        ConfigError: the file cannot be written; no key is made.
    """
    key, kept = make_key("first start", [Role.CLINICIAN])
    if terminal:
        keys.add(kept)
        return f"your key, shown this once: {key}"
    path = _folder(store_url) / NAME
    try:
        _write(path, key)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot take the first key ({error.strerror}); make one by `rxdraft keys add`"
        ) from None
    keys.add(kept)
    return f"your key is in {path}; delete it once you have it"


def works(key: StoredKey) -> bool:
    """Whether a key opens the service now."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > datetime.now(UTC))


def _folder(store_url: str) -> Path:
    url = make_url(store_url)
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else default_path()
    return file.parent


def _write(path: Path, key: str) -> None:
    """Write a file that its owner alone may read, from its first moment on; an older one may be wider."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(f"{key}\n")
