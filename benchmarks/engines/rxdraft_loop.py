"""Ours: `training.loop.train`, as `rxdraft train` calls it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from engines import workload

from training.loop import train

SETTINGS: dict[str, dict[str, Any]] = {
    "rxdraft": {},
    "rxdraft, whole batches": {"micro_batch_size": workload.BATCH},
    "rxdraft, checkpointing": {"gradient_checkpointing": True},
}


def run(folder: Path, name: str) -> list[float]:
    """Train one setting on the cohort in `folder`; return the loss of each step."""
    with tempfile.TemporaryDirectory(prefix="bench-train-") as out:
        config = workload.config(**SETTINGS[name])
        train(config, folder / "cohort", str(folder / "base"), Path(out), lambda name: lambda *told: None)
        log = Path(out) / f"rank-{workload.RANK}" / "log.jsonl"
        return [json.loads(line)["loss"] for line in log.read_text().splitlines()]
