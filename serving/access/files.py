"""What a file's mode means for whether its word counts."""

from __future__ import annotations

import stat
from pathlib import Path


def anybody_may_write(path: Path) -> bool:
    """Tell whether every user of this machine may change a file: then it cannot say who is let in.

    A group may: on many systems each user has one alone.
    """
    return bool(path.stat().st_mode & stat.S_IWOTH)
