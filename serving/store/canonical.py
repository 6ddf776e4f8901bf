"""One spelling of a JSON value, so that its digest means the value."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    r"""Return the value as JSON of sorted keys, no spaces and ASCII only, which every database gives back unchanged.

    >>> canonical({"b": [1.5, None], "a": "µ"})
    b'{"a":"\\u00b5","b":[1.5,null]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
