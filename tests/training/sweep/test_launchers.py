"""Wherever trials are trained, in turn, side by side, by Ray, killed or not, the adapters are the same bits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.progress import Told
from training.loop import train
from training.manifest import find_checkpoints, read_manifest
from training.sweep import local
from training.sweep.grid import Grid, Trial
from training.sweep.local import in_processes, in_sequence, unheard
from training.sweep.status import State, standing

GRID = Grid("smoke", ["batch_size=4", "warmup_steps=2"], ranks=[2, 4], steps=[15, 30, 45], seeds=[1])
Trials = Callable[[Path], list[Trial]]


@pytest.fixture(scope="module")
def trials(tiny_cohort: Path, random_base: Path) -> Trials:
    return lambda out: GRID.trials(out, tiny_cohort, str(random_base))


@pytest.fixture(scope="module")
def undisturbed(trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the adapters are when each rank is trained alone by `rxdraft train`'s loop."""
    out = tmp_path_factory.mktemp("alone")
    for trial in trials(out):
        train(trial.config, trial.cohort, trial.base, trial.folder.parent, unheard)
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): read_manifest(path).weights_sha256 for path in find_checkpoints(out)}


@pytest.fixture
def ended() -> list[str]:
    return []


def test_trials_in_turn_equal_each_trained_alone(trials, undisturbed, ended, tmp_path):
    in_sequence(trials(tmp_path), unheard, lambda trial: ended.append(trial.name))
    assert digests(tmp_path) == undisturbed
    assert ended == ["fa-lora-seed-1/rank-2", "fa-lora-seed-1/rank-4"]
    marked = json.loads((tmp_path / "fa-lora-seed-1" / "rank-2" / "whole.json").read_text("utf-8"))
    assert list(marked["checkpoints"]) == ["step-000015", "step-000030", "step-000045"]


def test_trials_side_by_side_equal_each_trained_alone_though_one_is_killed(trials, undisturbed, ended, tmp_path):
    made = trials(tmp_path)
    killed = kill_once(made[0].folder / "log.jsonl")
    in_processes(made, 2, unheard, lambda trial: ended.append(trial.name))
    assert killed()
    assert digests(tmp_path) == undisturbed
    assert sorted(ended) == [trial.name for trial in made]


def test_a_trial_that_is_killed_again_and_again_is_given_up(trials, ended, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "RESTARTS", 0)
    [made, _] = trials(tmp_path)
    killed = kill_once(made.folder / "log.jsonl")
    in_processes([made], 1, unheard, lambda trial: ended.append(trial.name))
    assert killed()
    assert standing(made.folder).why == (
        "its process was killed 1 times, last by signal 9; out of memory? lower --jobs"
    )


def test_a_trial_that_cannot_be_trained_says_why_and_the_others_are_trained(trials, undisturbed, ended, tmp_path):
    first, second = trials(tmp_path)
    first.folder.mkdir(parents=True)
    (first.folder / "run.json").write_text('{"config": {}, "rank": 16}')
    in_sequence([first, second], unheard, lambda trial: ended.append(trial.name))
    assert standing(first.folder).state is State.FAILED
    assert "differs in" in standing(first.folder).why
    assert standing(second.folder).state is State.WHOLE
    (first.folder / "run.json").unlink()
    in_sequence([first, second], unheard, lambda trial: ended.append(trial.name))
    assert digests(tmp_path) == undisturbed


def test_ctrl_c_ends_every_process_at_once(trials, tmp_path):
    made = trials(tmp_path)

    def interrupt(name: str) -> Told:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(made, 2, interrupt, lambda trial: None)
    assert State.TRAINING not in {standing(trial.folder).state for trial in made}


def test_gpus_are_dealt_out_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [local._settings(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["4", "6", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in local._settings(0, 3)


def test_ray_trains_the_same_though_a_worker_is_killed(trials, undisturbed, ended, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from training.sweep.on_ray import on_ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made = trials(tmp_path)
    killed = kill_once(made[1].folder / "log.jsonl")
    on_ray(made, "auto", 2, unheard, lambda trial: ended.append(trial.name))
    assert killed()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert digests(tmp_path) == undisturbed
    assert sorted(ended) == [trial.name for trial in made]


def kill_once(log: Path) -> Callable[[], bool]:
    """Kill the process that writes a log some time after it began; return how to ask whether that was done."""
    done: list[int] = []

    def work() -> None:
        give_up = time.monotonic() + 600
        while time.monotonic() < give_up:
            if log.is_file() and log.stat().st_size and (worker := holder_of(log)) is not None:
                os.kill(worker, signal.SIGKILL)
                done.append(worker)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()

    def asked() -> bool:
        thread.join()
        return bool(done)

    return asked


def holder_of(log: Path) -> int | None:
    """Return the process that has a file open."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if any(link.readlink() == log for link in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:  # ended, or not ours
                continue
    return None
