"""How far a sweep is, as its folders tell; and that a folder holds one sweep and one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.errors import ContractError
from training.sweep.grid import Grid
from training.sweep.lock import is_locked, locked
from training.sweep.status import State, claim, lines, read_sweep, standing, update
from training.sweep.trial import mark_failed


@pytest.fixture
def grid() -> Grid:
    return Grid("smoke", ranks=[2, 4], steps=[2, 4], seeds=[0])


def test_a_trial_waits_trains_is_stopped_fails_and_is_whole(tmp_path: Path) -> None:
    run = tmp_path / "rank-2"
    assert standing(run).state is State.WAITING
    with locked(run):
        assert standing(run).state is State.TRAINING
    (run / "run.json").write_text("{}")
    (run / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')  # killed while it wrote
    assert (standing(run).state, standing(run).step) == (State.STOPPED, 2)
    (run / "failed.json").write_text('{"why": "the loss is not finite"}')
    assert (standing(run).state, standing(run).why) == (State.FAILED, "the loss is not finite")
    (run / "whole.json").write_text('{"checkpoints": {"step-000002": "digest"}}')
    assert standing(run).state is State.FAILED  # what the mark names is not there
    (run / "step-000002").mkdir()
    (run / "step-000002" / "manifest.json").touch()
    assert standing(run).state is State.WHOLE


def test_one_process_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(ContractError, match="another process is at work"), locked(tmp_path, patience_seconds=0.2):
            pass
    assert not is_locked(tmp_path)


def test_ranks_seeds_and_methods_may_be_added_to_a_sweep(grid, tiny_cohort, random_base, tmp_path) -> None:
    claim(tmp_path, grid.trials(tmp_path, tiny_cohort, str(random_base)))
    more = Grid("smoke", ranks=[8], steps=[2, 4], seeds=[0, 1], methods=["lora"])
    claim(tmp_path, more.trials(tmp_path, tiny_cohort, str(random_base)))
    assert list(read_sweep(tmp_path)["trials"]) == [
        *("fa-lora-seed-0/rank-2", "fa-lora-seed-0/rank-4", "lora-seed-0/rank-8", "lora-seed-1/rank-8")
    ]


@pytest.mark.parametrize(
    ("settings", "steps", "named"),
    [(["learning_rate=0.5"], [2, 4], "learning_rate"), ([], [2, 6], "checkpoint_steps")],
)
def test_another_sweep_in_the_same_folder_is_refused_and_what_differs_is_named(
    grid, settings, steps, named, tiny_cohort, random_base, tmp_path
) -> None:
    claim(tmp_path, grid.trials(tmp_path, tiny_cohort, str(random_base)))
    other = Grid("smoke", settings, ranks=[2], steps=steps, seeds=[0])
    with pytest.raises(ContractError, match=named):
        claim(tmp_path, other.trials(tmp_path, tiny_cohort, str(random_base)))


def test_sweep_json_repeats_what_the_folders_say(grid, tiny_cohort, random_base, tmp_path) -> None:
    trials = grid.trials(tmp_path, tiny_cohort, str(random_base))
    claim(tmp_path, trials)
    trials[0].folder.mkdir(parents=True)
    mark_failed(trials[0], "reason")
    update(tmp_path)
    written = json.loads((tmp_path / "sweep.json").read_text("utf-8"))["trials"]
    assert [trial["state"] for trial in written.values()] == ["failed", "waiting"]
    assert lines(tmp_path) == [
        "fa-lora-seed-0/rank-2  failed    step      0, 0 of 2 checkpoints; reason",
        "fa-lora-seed-0/rank-4  waiting   step      0, 0 of 2 checkpoints",
        "0 of 2 trials are whole",
    ]
