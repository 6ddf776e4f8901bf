"""The page's scripts, style and icon, kept in memory and named by what they hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """One of them, ready to be sent."""

    content: bytes
    media_type: str


@cache
def static_files() -> dict[str, File]:
    """Return the files by name."""
    found = (path for path in (files(__package__) / "static").iterdir() if path.is_file())
    return {path.name: File(path.read_bytes(), _TYPES[path.name.rpartition(".")[2]]) for path in found}


@cache
def static_digest() -> str:
    """Return a digest of all files; it stands in their addresses, so that a browser may keep them for good."""
    digest = hashlib.sha256()
    for name, file in sorted(static_files().items()):
        digest.update(name.encode() + b"\0" + file.content + b"\0")
    return digest.hexdigest()[:16]
