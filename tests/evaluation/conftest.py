"""What the tests of the evaluation stand on: checkpoints that answer with drugs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tiny matrices: several threads on few cores spend their time waiting for each other (50 s instead of 0.2 s).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test here is about time, and two busy cores are slow at moments.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def taught_runs(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like trained_runs, on a base that was first taught the cohort: most of its answers are lists.

    tests/serving/ has the same fixture; whoever comes second finds the folder.
    """
    from training.config import load_config
    from training.loop import train

    folder = tmp_path_factory.getbasetemp() / "taught"
    if not (folder / "done").exists():
        quiet = lambda name: lambda done, total, loss: None  # noqa: E731
        whole = ['method="full"', "checkpoint_steps=[120]", "batch_size=8", "warmup_steps=5", "learning_rate=3e-3"]
        made = train(load_config("smoke", whole), tiny_cohort, str(random_base), folder / "full", quiet)
        small = ["ranks=[2, 4]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"]
        train(load_config("smoke", small), tiny_cohort, str(made[-1] / "model"), folder / "runs", quiet)
        (folder / "done").touch()
    return folder / "runs"
