"""Runs that are killed at a step, and what they wrote down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.progress import Told

_MEASURED = ("seconds", "peak_memory_bytes")


class Killed(BaseException):
    """Stands for kill -9 at a step: nothing of ours catches it."""


def quiet(name: str) -> Told:
    """Let a run go on to its end."""
    return lambda done, total, note: None


def killed_after(step: int) -> Callable[[str], Told]:
    """Return what kills a run when it has taken a step."""

    def told(done: int, total: int, note: str | None) -> None:
        if done == step:
            raise Killed

    return lambda name: told


def log_of(run: Path) -> list[dict[str, Any]]:
    """Return a run's log without what is measured, which no two runs share."""
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in _MEASURED} for line in lines]
