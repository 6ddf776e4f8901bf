"""Latencies and throughput of a load, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving_load.people import Book


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that so much of all does not exceed.

    >>> quantile([3.0, 1.0, 2.0, 4.0], 0.5), quantile([1.0], 0.95)
    (2.0, 1.0)
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def summary(book: Book, seconds: float) -> dict[str, Any]:
    """Return what a load saw; rates are of successes, over the whole time, seconds those of successes."""
    routes = {
        route: {
            "calls": len(taken),
            "per_second": round(len(taken) / seconds, 1),
            "p50_seconds": round(quantile(taken, 0.5), 3),
            "p95_seconds": round(quantile(taken, 0.95), 3),
            "p99_seconds": round(quantile(taken, 0.99), 3),
            "max_seconds": round(max(taken), 3),
        }
        for route, taken in sorted(book.seconds.items())
    }
    return {
        "seconds": round(seconds, 1),
        "calls_per_second": round(sum(len(taken) for taken in book.seconds.values()) / seconds, 1),
        "routes": routes,
        "answers": dict(sorted(book.answers.items())),
        "wrong": dict(book.wrong),
        "promised": len(book.promised),
        "unsure": len(book.unsure),
    }


def table(told: dict[str, Any]) -> str:
    """Return the routes as lines for eyes."""
    lines = [f"{'route':34}{'calls':>8}{'/s':>8}{'p50 s':>8}{'p95 s':>8}{'p99 s':>8}{'max s':>8}"]
    for route, one in told["routes"].items():
        waits = "".join(f"{one[f'{name}_seconds']:8.3f}" for name in ("p50", "p95", "p99", "max"))
        lines.append(f"{route:34}{one['calls']:8}{one['per_second']:8.1f}{waits}")
    return "\n".join(lines)
