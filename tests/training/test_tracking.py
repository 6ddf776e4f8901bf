"""The log holds what was learned and no lost step; its copies hold the same numbers, once each, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.artefacts import remove
from etl.errors import ConfigError
from training.tracking import open_log, read_log

BOTH = ("tensorboard", "mlflow")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # also to read what was written
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def entry(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 1, "loss": 1 / step, "learning_rate": 1e-3, **more}


def run_of(runs: Path) -> Path:
    folder = runs / "rank-2"
    folder.mkdir(parents=True)
    about = {"config": {"method": "fa-lora", "alpha": 16.0, "targets": ["q_proj"], "clip_norm": None}, "rank": 2}
    (folder / "run.json").write_text(json.dumps({**about, "cohort": "/home/somebody/cohort"}), "utf-8")
    return folder


def write(folder: Path, keep: int, last: int, trackers: Any = BOTH) -> None:
    if (folder / "tensorboard").exists():
        time.sleep(1)  # its files are read in the order of their names, which begin with the second
    with open_log(folder, keep, trackers) as log:
        for step in range(keep + 1, last + 1):
            log.write(entry(step))


def tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    kinds = {kind: names for kind, names in read.Tags().items() if names and kind != "scalars"}
    assert not kinds, "TensorBoard holds more than scalars"
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]}


def mlflow(folder: Path) -> Any:
    """The client, and the run the folder names."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder.parent / "mlflow").as_uri())
    return client, json.loads((folder / "mlflow.json").read_text("utf-8"))["run_id"]


def mlflow_steps(folder: Path, name: str = "loss") -> list[tuple[int, float]]:
    client, run_id = mlflow(folder)
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))


# --- log.jsonl -----------------------------------------------------------------------------------------


def test_a_line_is_an_entry_as_it_was_written(tmp_path: Path) -> None:
    with open_log(tmp_path, 0) as log:
        log.write(entry(1))
        assert (tmp_path / "log.jsonl").read_text("utf-8") == (
            '{"step": 1, "epoch": 1, "loss": 1.0, "learning_rate": 0.001}\n'
        ), "not on disk before the log is closed"


@given(done=st.integers(0, 8), keep=st.integers(0, 8), cut=st.integers(0, 40))
def test_a_log_gone_on_with_holds_every_step_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, done: int, keep: int, cut: int
) -> None:
    """Wherever a kill cut the log, which reaches at least to the checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    keep = min(keep, done)
    write(folder, 0, done, ())
    whole = (folder / "log.jsonl").read_bytes()
    behind = sum(len(line) + 1 for line in whole.splitlines()[keep:])
    (folder / "log.jsonl").write_bytes(whole[: len(whole) - min(cut, behind)])
    write(folder, keep, 9, ())
    assert read_log(folder / "log.jsonl") == [entry(step) for step in range(1, 10)]


def test_numbers_survive_a_restart_to_the_last_bit(tmp_path: Path) -> None:
    with open_log(tmp_path, 0) as log:
        log.write(entry(1, loss=0.1 + 0.2, grad_norm=1e-310, name="ß"))
    before = (tmp_path / "log.jsonl").read_bytes()
    with open_log(tmp_path, 1):
        pass
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_without_a_tracker_nothing_but_the_log_is_written(tmp_path: Path) -> None:
    write(tmp_path / "rank-2", 0, 2, ())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log.jsonl"]


# --- copies --------------------------------------------------------------------------------------------


def test_both_trackers_hold_the_numbers_of_the_log(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    write(folder, 0, 5)
    assert tensorboard(folder)["loss"] == [(step, pytest.approx(1 / step)) for step in range(1, 6)]
    assert mlflow_steps(folder) == [(step, 1 / step) for step in range(1, 6)]
    assert tensorboard(folder).keys() == {"epoch", "loss", "learning_rate"}


def test_a_run_that_goes_on_shows_no_step_twice_and_no_lost_one(tmp_path: Path) -> None:
    """Killed at step 7 with a checkpoint at 4; then ended at 6, so that 7 is of a lost run."""
    folder = run_of(tmp_path)
    write(folder, 0, 7)
    write(folder, 4, 6)
    assert [step for step, _ in tensorboard(folder)["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in mlflow_steps(folder)] == [1, 2, 3, 4, 5, 6, 7], "MLflow takes nothing back"
    client, _ = mlflow(folder)
    [experiment] = [found for found in client.search_experiments() if found.name == "rxdraft"]
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_tensorboard_that_watched_forgets_the_lost_run(tmp_path: Path) -> None:
    """Its files, old and new, read in the order of their names: the new one's mark purges the old one's steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run_of(tmp_path)
    write(folder, 0, 7)
    watching = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    write(folder, 4, 6)
    assert [event.step for event in watching.Reload().Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_tracker_asked_for_later_gets_the_steps_before_it(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    write(folder, 0, 3, ())
    write(folder, 3, 5)
    assert [step for step, _ in tensorboard(folder)["loss"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in mlflow_steps(folder)] == [1, 2, 3, 4, 5]


def test_steps_that_a_kill_kept_from_mlflow_come_with_the_restart(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    child = os.fork()
    if not child:
        with open_log(folder, 0, BOTH) as log:
            for step in range(1, 7):
                log.write(entry(step))
            os._exit(9)  # nothing is flushed, nothing is closed
    assert os.waitpid(child, 0)[1] >> 8 == 9
    write(folder, 4, 6)
    assert [step for step, _ in tensorboard(folder)["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in mlflow_steps(folder)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_was_removed_from_mlflow_is_told_anew(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    write(folder, 0, 3)
    _, run_id = mlflow(folder)
    for path in (tmp_path / "mlflow").glob(f"*/{run_id}"):
        remove(path)
    write(folder, 3, 4)
    assert [step for step, _ in mlflow_steps(folder)] == [1, 2, 3, 4]


def test_text_lists_and_missing_values_go_to_no_tracker(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    with open_log(folder, 0, BOTH) as log:
        log.write(entry(1, prompt="a patient", hadm_id=None, rows=[1, 2], stopped=True))
    client, run_id = mlflow(folder)
    assert client.get_run(run_id).data.metrics.keys() == {"epoch", "loss", "learning_rate"}
    assert tensorboard(folder).keys() == {"epoch", "loss", "learning_rate"}


def test_mlflow_knows_the_settings_and_not_whose_machine_it_was(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    write(folder, 0, 1)
    client, run_id = mlflow(folder)
    run = client.get_run(run_id)
    assert run.data.params == {"method": "fa-lora", "alpha": "16.0", "rank": "2"}
    assert run.data.tags == {"mlflow.runName": "rank-2"}
    assert not client.list_artifacts(run_id)


@pytest.mark.parametrize(("failing", "status"), [(False, "FINISHED"), (True, "FAILED")])
def test_mlflow_says_how_a_run_ended(tmp_path: Path, failing: bool, status: str) -> None:
    folder = run_of(tmp_path)
    try:
        with open_log(folder, 0, ["mlflow"]) as log:
            log.write(entry(1))
            if failing:
                raise ConfigError("the gradient is not finite")
    except ConfigError:
        pass
    client, run_id = mlflow(folder)
    assert client.get_run(run_id).info.status == status
    assert mlflow_steps(folder) == [(1, 1.0)]


def test_a_server_that_fails_later_costs_its_copy_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_of(tmp_path)
    with open_log(folder, 0, ["mlflow"]) as log:
        log.write(entry(1))
        remove(tmp_path / "mlflow")
    assert "is told no more" in caplog.text
    assert read_log(folder / "log.jsonl") == [entry(1)]


def test_a_server_that_does_not_answer_is_one_line_without_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(ConfigError, match="at MLFLOW_TRACKING_URI cannot be written") as caught,
        open_log(run_of(tmp_path), 0, ["mlflow"]),
    ):
        pass
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_set_for_something_else_is_not_used_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    write(tmp_path, 0, 1, ["tensorboard"])
    assert read_log(tmp_path / "log.jsonl") == [entry(1)]


def test_mlflow_without_a_server_connects_to_nothing(tmp_path: Path) -> None:
    """Its telemetry included, which is on by default but in tests: hence a process that is none."""
    command = (
        "import socket, sys, time; from pathlib import Path\n"
        "from training.tracking import open_log\n"
        "socket.socket.connect = lambda *args: sys.exit('connected')\n"
        "socket.getaddrinfo = lambda *args, **more: print('looked up', args[0]) or []\n"
        "with open_log(Path(sys.argv[1]), 0, ['tensorboard', 'mlflow']) as log:\n"
        "    log.write({'step': 1, 'loss': 1.0})\n"
    )
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", command, str(run_of(tmp_path))], env=known, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert mlflow_steps(tmp_path / "rank-2") == [(1, 1.0)]


@pytest.mark.parametrize(("tracker", "package"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_one_line_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'rxdraft\[{tracker}\]'"), open_log(tmp_path, 0, [tracker]):
        pass
