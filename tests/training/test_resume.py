"""A run that was killed ends like one that was not, and goes on only as the run it is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from etl.errors import ContractError
from tests.training.runs import Killed, killed_after, log_of, quiet
from training import loop
from training.checkpoint import load_weights, weights_sha256
from training.config import TrainConfig, load_config
from training.looks import Looks
from training.manifest import find_checkpoints, read_manifest

SETTINGS = ["batch_size=4", "warmup_steps=2", "learning_rate=5e-3"]


def small(*overrides: str) -> TrainConfig:
    return load_config("smoke", [*SETTINGS, "ranks=[2]", "checkpoint_steps=[3, 6]", *overrides])


def assert_same_run(ours: Path, theirs: Path) -> None:
    assert [path.name for path in find_checkpoints(ours)] == [path.name for path in find_checkpoints(theirs)]
    for checkpoint in find_checkpoints(ours):
        assert read_manifest(theirs / checkpoint.name) == read_manifest(checkpoint)
    assert log_of(ours) == log_of(theirs)
    assert (ours / "validation.json").read_bytes() == (theirs / "validation.json").read_bytes()
    assert not list(ours.rglob("*.unfinished"))


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    """kill -9, three times at random moments, against a run left alone: adapters and log are equal."""
    steps = ["ranks=[2]", "checkpoint_steps=[10, 20, 30, 40]", *SETTINGS]

    def command(out: Path) -> list[str]:
        settings = [part for setting in steps for part in ("--set", setting)]
        return [
            *(sys.executable, "-m", "rxdraft", "train", "--data", str(tiny_cohort), "--base", str(random_base)),
            *("--config", "smoke", "--out", str(out), *settings),
        ]

    draw = random.Random(5)
    log = tmp_path / "killed" / "rank-2" / "log.jsonl"
    for _ in range(3):
        process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began, seen = time.monotonic(), log.stat().st_size if log.exists() else 0
        while process.poll() is None and time.monotonic() - began < 120:
            if log.exists() and log.stat().st_size != seen:  # it trains
                time.sleep(draw.uniform(0, 0.6))
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)

    config = load_config("smoke", steps)
    loop.train(config, tiny_cohort, str(random_base), tmp_path / "alone", quiet)
    assert_same_run(tmp_path / "killed" / "rank-2", tmp_path / "alone" / "rank-2")


def test_full_training_goes_on_from_a_checkpoint_with_the_same_bits(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    for name, stages in {"whole": (4,), "stopped": (2, 4)}.items():
        for steps in stages:
            config = small("method=full", f"checkpoint_steps={[2, 4][: steps // 2]}")
            (tmp_path / name / "full" / "run.json").unlink(missing_ok=True)  # the longer run is another config
            loop.train(config, tiny_cohort, str(random_base), tmp_path / name, quiet)
    whole, stopped = (
        load_file(tmp_path / name / "full" / "step-000004" / "model" / "model.safetensors")
        for name in ("whole", "stopped")
    )
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


PATIENT = ["checkpoint_steps=[30]", "validate_every=2", "patience=2"]


@pytest.fixture(scope="module")
def stopped(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that early stopping ended: a rate so high that the validation loss soon rises."""
    out = tmp_path_factory.mktemp("stopped")
    loop.train(patient(), tiny_cohort, str(random_base), out, quiet)
    return out / "rank-2"


def patient() -> TrainConfig:
    return small(*PATIENT, "optimizer=adamw", "learning_rate=5", "warmup_steps=0")


def test_a_run_stops_when_patience_ends_and_keeps_the_best_step(stopped: Path) -> None:
    found = json.loads((stopped / "validation.json").read_text("utf-8"))
    losses = {look["step"]: look["loss"] for look in found["looks"]}
    assert found["stopped_at"] == max(losses) < 30
    assert found["best_step"] == min(losses, key=losses.__getitem__) == max(losses) - 2 * 2
    [kept] = find_checkpoints(stopped)
    assert read_manifest(kept).best is True
    assert read_manifest(kept).step == found["best_step"]
    assert read_manifest(kept).losses["validation"] == losses[found["best_step"]]
    logged = {entry["step"]: entry["validation_loss"] for entry in log_of(stopped) if "validation_loss" in entry}
    assert logged == losses


def test_a_run_that_stopped_early_is_whole(
    tiny_cohort: Path, random_base: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "build", None)  # whoever builds a model fails
    assert loop.train(patient(), tiny_cohort, str(random_base), stopped.parent, quiet) == find_checkpoints(stopped)


def test_patience_survives_a_kill_at_every_step(
    tiny_cohort: Path, random_base: Path, stopped: Path, tmp_path: Path
) -> None:
    """Killed before and after the best step, and one look before the end."""
    last = json.loads((stopped / "validation.json").read_text("utf-8"))["stopped_at"]
    for step in (1, last - 4, last - 1, last):
        with pytest.raises(Killed):
            loop.train(patient(), tiny_cohort, str(random_base), tmp_path, killed_after(step))
    loop.train(patient(), tiny_cohort, str(random_base), tmp_path, quiet)
    assert_same_run(tmp_path / "rank-2", stopped)


def test_looks_of_a_lost_run_do_not_count(tmp_path: Path) -> None:
    looks = Looks(tmp_path, keep=0, patience=2)
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5), (40, 2.4)):
        looks.add(step, loss)
    looks.write(ended=True)
    assert looks.exhausted
    assert Looks(tmp_path, keep=40, patience=2).exhausted
    assert not Looks(tmp_path, keep=30, patience=2).exhausted
    assert Looks(tmp_path, keep=10, patience=2).best_step == 10
    assert not Looks(tmp_path, keep=40, patience=None).exhausted


def test_an_equal_loss_is_not_a_better_one(tmp_path: Path) -> None:
    looks = Looks(tmp_path, keep=0, patience=1)
    looks.add(10, 2.0)
    looks.add(20, 2.0)
    assert looks.best_step == 10
    assert looks.exhausted


def test_a_run_may_go_on_with_less_memory_but_not_with_another_rate(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        loop.train(small(), tiny_cohort, str(random_base), tmp_path, killed_after(4))
    with pytest.raises(ContractError, match="differs in learning_rate, seed; choose another --out"):
        loop.train(small("learning_rate=1e-3", "seed=1"), tiny_cohort, str(random_base), tmp_path, quiet)
    made = loop.train(
        small("micro_batch_size=1", "gradient_checkpointing=true"), tiny_cohort, str(random_base), tmp_path, quiet
    )
    assert [read_manifest(path).step for path in made] == [3, 6]


def test_a_checkpoint_that_lacks_a_matrix_is_not_gone_on_from(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    [made] = loop.train(small("method=full", "checkpoint_steps=[1]"), tiny_cohort, str(random_base), tmp_path, quiet)
    path = made / "model" / "model.safetensors"
    weights = load_file(path)
    weights.pop(next(name for name in weights if "q_proj" in name))
    save_file(weights, path)
    content = json.loads((made / "manifest.json").read_text("utf-8"))
    content["weights_sha256"] = weights_sha256(made / "model")
    (made / "manifest.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(RuntimeError, match="q_proj"):
        load_weights(AutoModelForCausalLM.from_pretrained(random_base), made)
