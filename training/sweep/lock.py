"""One process at a time in a folder; the system lets go of the lock however its holder ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.errors import ContractError

log = logging.getLogger(__name__)

NAME = ".lock"
_UNABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no locks."""


@contextmanager
def locked(folder: Path, patience_seconds: float = 10.0) -> Iterator[None]:
    """Hold a folder, made if need be, for the block.

    Args:
        folder: which.
        patience_seconds: how long one who holds it is waited for: the worker of a sweep that was killed needs a
            moment to notice.

    Raises:
        ContractError: another process still holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a") as file:
        give_up = time.monotonic() + patience_seconds
        while not _take(file.fileno()):
            if time.monotonic() > give_up:
                raise ContractError(f"another process is at work in {folder}; wait for it or stop it")
            time.sleep(0.1)
        yield


def is_locked(folder: Path) -> bool:
    """Say whether a process holds the folder now."""
    if not (folder / NAME).is_file():
        return False
    with (folder / NAME).open("a") as file:
        return not _take(file.fileno())


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        log.warning("this file system has no locks: see yourself that no second sweep works in the same folder")
    return True
