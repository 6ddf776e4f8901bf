"""Several processes: what two learn together is what one learns alone, whole or spread, also when gone on from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from etl.errors import ConfigError
from tests.training.runs import quiet
from training import loop
from training.config import load_config
from training.distributed import Processes
from training.manifest import find_checkpoints, read_manifest

SETTINGS = ["ranks=[4]", "batch_size=5", "warmup_steps=0", "optimizer=sgd", "learning_rate=0.5", "clip_norm=0.1"]
"""Of every run here. Plain SGD: under AdamW a rounding error in a gradient near 0 may turn a whole step round."""

ADAPTER = [*SETTINGS, "checkpoint_steps=[3]"]
STOPPING = ["checkpoint_steps=[2, 4]", "validate_every=1", "patience=3"]
FULL = [*SETTINGS, "method=full", "optimizer=adamw", "learning_rate=1e-3", "batch_size=4", *STOPPING]

LABELS = ["objective=labels", "head_learning_rate=2", *ADAPTER, "validate_every=1"]

JOBS = """
import json, os, sys
from pathlib import Path
from training import loop
from training.config import load_config
from training.distributed import Processes, once

cohort, base, jobs = sys.argv[1:]
marker = Path(__file__).with_name("made-by")


def make():
    if not marker.exists():
        marker.write_text(os.environ.get("WORLD_SIZE", "alone"))
    return marker.read_text()


assert once(make) == "alone"
for out, overrides in json.loads(jobs):
    with Processes("ddp").one_by_one():
        Path(out, "full", "run.json").unlink(missing_ok=True)  # the longer run is another config
    loop.train(load_config("smoke", overrides), Path(cohort), base, Path(out), lambda name: lambda *told: None)
"""


def torchrun(*command: str, processes: int = 2) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *command],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(loop.__file__).parents[1])},
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def together(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes, all by the same two, since it is their start that takes long."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "jobs.py").write_text(JOBS, "utf-8")
    jobs = [
        (str(folder / "ddp"), ADAPTER),
        (str(folder / "ddp-micro"), [*ADAPTER, "micro_batch_size=1"]),
        (str(folder / "labels"), LABELS),
        (str(folder / "labels-micro"), [*LABELS, "micro_batch_size=1"]),
        (str(folder / "fsdp"), [*ADAPTER, "sharding=fsdp"]),
        (str(folder / "fsdp-full"), [*FULL, "sharding=fsdp"]),
        (str(folder / "fsdp-full-twice"), [*FULL, "sharding=fsdp", "checkpoint_steps=[2]"]),
        (str(folder / "fsdp-full-twice"), [*FULL, "sharding=fsdp"]),
    ]
    torchrun(str(folder / "jobs.py"), str(tiny_cohort), str(random_base), json.dumps(jobs))
    return folder


@pytest.fixture(scope="module")
def alone(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run of one process, which equals what two do together."""

    def run(name: str, *overrides: str) -> Path:
        out = tmp_path_factory.mktemp(name)
        loop.train(load_config("smoke", list(overrides)), tiny_cohort, str(random_base), out, quiet)
        return out

    return run


def weights(runs: Path) -> dict[str, torch.Tensor]:
    newest = find_checkpoints(runs)[-1]
    files = newest.glob(f"{read_manifest(newest).weights_folder}/*.safetensors")
    return {name: weight for path in files for name, weight in load_file(path).items()}


def log_of(runs: Path) -> list[dict[str, Any]]:
    [path] = runs.glob("*/log.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def assert_same(runs: Path, others: Path, tolerance: float) -> None:
    ours, theirs = weights(runs), weights(others)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=tolerance)
    for entry, other in zip(log_of(runs), log_of(others), strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert entry["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)
        assert entry.get("validation_loss", 0) == pytest.approx(other.get("validation_loss", 0), rel=1e-6)
        assert (entry["tokens"], entry["response_tokens"]) == (other["tokens"], other["response_tokens"])


def test_two_processes_and_every_micro_batch_learn_the_same_b(together: Path, alone: Callable[..., Path]) -> None:
    """Five rows: the processes' shares differ, and the last micro-batches of one are stand-ins."""
    one = alone("one", *ADAPTER, "micro_batch_size=5")
    assert any(weight.abs().max() > 1e-2 for name, weight in weights(one).items() if "lora_B" in name)
    for size in (1, 2):
        assert_same(alone("micro", *ADAPTER, f"micro_batch_size={size}"), one, 1e-6)
    assert_same(together / "ddp", one, 1e-6)
    assert_same(together / "ddp-micro", one, 1e-6)


def test_two_processes_and_every_micro_batch_learn_the_same_label_head(
    together: Path, alone: Callable[..., Path]
) -> None:
    """Dropout included; with micro-batches of one row, one process ends with a stand-in."""
    one = alone("one", *LABELS, "micro_batch_size=5")
    moved = {name for name, weight in weights(one).items() if weight.abs().max() > 1e-3}
    assert {"value", "whole", "bias"} <= moved
    assert any("lora_B" in name for name in moved)
    assert_same(alone("micro", *LABELS, "micro_batch_size=2"), one, 1e-7)
    assert_same(together / "labels", one, 1e-7)
    assert_same(together / "labels-micro", one, 1e-7)


def test_a_base_spread_over_two_processes_learns_the_same_b(together: Path, alone: Callable[..., Path]) -> None:
    assert_same(together / "fsdp", alone("one", *ADAPTER), 1e-6)


def test_a_model_spread_over_two_processes_is_saved_whole(together: Path, alone: Callable[..., Path]) -> None:
    assert_same(together / "fsdp-full", alone("full", *FULL), 1e-4)


def test_a_model_spread_over_two_processes_goes_on_with_the_same_bits(together: Path) -> None:
    once, twice = (weights(together / name) for name in ("fsdp-full", "fsdp-full-twice"))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_what_is_made_once_is_made_by_one_process_as_if_it_were_alone(together: Path) -> None:
    assert (together / "made-by").read_text("utf-8") == "alone"


def test_torchrun_starts_the_command_and_the_first_process_speaks(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, together: Path
) -> None:
    settings = [part for setting in ADAPTER for part in ("--set", setting)]
    given = ["--data", str(tiny_cohort), "--base", str(random_base), "--out", str(tmp_path / "runs")]
    printed = torchrun("-m", "rxdraft", "train", *given, "--config", "smoke", *settings)
    assert printed.split() == [str(tmp_path / "runs" / "rank-4" / "step-000003")]
    assert (tmp_path / "runs" / "curves.png").is_file()
    ours, theirs = weights(tmp_path / "runs"), weights(together / "ddp")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_accelerate_config_that_wants_another_sharding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="asks for FSDP and the run's for sharding=ddp"):
        Processes("ddp")
