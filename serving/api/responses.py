"""What every route declares of its errors, for /openapi.json."""

from __future__ import annotations

from typing import Any

from serving.problems import declared

_ANY = (
    *("unreadable", "unauthenticated", "forbidden", "too_large", "not_json", "invalid", "rate_limited"),
    *("internal_error", "store_unavailable"),
)


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that asks who calls and what for.

    Args:
        codes: of `serving.problems.CODES`, beside those that any such route may answer with.
    """
    return declared(*_ANY, *codes)
