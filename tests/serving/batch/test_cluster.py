"""Drafts on Ray: the bytes of a run in one process, whoever drafted a part, though a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from etl.cohort import read_samples
from etl.errors import ConfigError
from serving.batch import cluster, job
from serving.batch import predict as predicting
from serving.batch.predict import Settings


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of this test's own, whose workers find the package."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(job, "PART", 4)


@pytest.fixture
def settings(tiny_cohort: Path, tmp_path: Path) -> Settings:
    source = tmp_path / "admissions.parquet"
    read_samples(tiny_cohort, "train").head(30).write_parquet(source)
    out, both = tmp_path / "drafts.parquet", min(2, os.cpu_count() or 1)
    return Settings(Path("baseline:logistic"), source, out, "hadm_id", data=tiny_cohort, ray="auto", workers=both)


def workers() -> set[int]:
    """Process ids of the workers that hold a model."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ray::" in command and b"_Worker" in command and is_ours(int(folder.name)):
                found.add(int(folder.name))
    return found


def is_ours(process: int) -> bool:
    """Tell whether a process descends from this one: others on the machine may run Ray, too."""
    while process > 1:
        if process == os.getpid():
            return True
        try:
            stat = (Path("/proc") / str(process) / "stat").read_text()
        except OSError:
            return False
        process = int(stat.rpartition(")")[2].split()[1])
    return False


def test_ray_drafts_the_same_bytes_though_a_worker_is_killed(settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    alone = replace(settings, out=tmp_path / "alone.parquet", ray=None, workers=None)
    predicting.predict(alone, quiet)
    killed: list[int] = []

    def kill_one() -> None:
        give_up = time.monotonic() + 300
        while not killed and time.monotonic() < give_up:
            for process in workers():
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    told: list[int] = []
    counts = predicting.predict(settings, lambda done, total: told.append(done))
    killer.join()
    assert killed
    assert counts.drafted == 30
    assert told == sorted(told)
    assert told[-1] == 30
    assert settings.out.read_bytes() == alone.out.read_bytes()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert pl.read_parquet(settings.out)["row"].to_list() == list(range(30))


def test_what_a_worker_cannot_do_comes_back_as_its_message(settings: Settings) -> None:
    pandas = pytest.importorskip("pandas")
    gone = replace(predicting._plan(settings, {}), source=settings.out.with_name("gone.parquet"))
    worker = cluster._Worker(gone, cluster.Model(settings.model, None, settings.data, None))
    [(number, content, refusal)] = worker(pandas.DataFrame({"part": [3]})).itertuples(index=False)
    assert (number, content) == (3, b"")
    assert "gone.parquet" in refusal


@pytest.mark.parametrize(
    ("there", "wanted", "share"),
    [
        ({"CPU": 8.0}, None, (2, {"num_cpus": 4})),
        ({"CPU": 8.0}, 3, (3, {"num_cpus": 2})),
        ({"CPU": 8.0, "GPU": 4.0}, None, (4, {"num_gpus": 1, "num_cpus": 1})),
        ({"CPU": 8.0}, 9, "--workers 9 each want one, and the cluster has 8 CPUs"),
        ({"CPU": 8.0, "GPU": 4.0}, 5, "--workers 5 each want one, and the cluster has 4 GPUs"),
    ],
)
def test_workers_share_what_there_is(there: dict[str, float], wanted: int | None, share: Any) -> None:
    two_nodes = SimpleNamespace(cluster_resources=lambda: there, nodes=lambda: 2 * [{"Alive": True}])
    if isinstance(share, str):
        with pytest.raises(ConfigError, match=share):
            cluster._share(two_nodes, wanted)
    else:
        assert cluster._share(two_nodes, wanted) == share


@pytest.mark.parametrize("missing", ["ray", "ray.data"])
def test_without_ray_the_error_says_what_to_install(
    missing: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"--ray needs ray\.data; pip install 'rxdraft\[ray\]'"):
        predicting.predict(settings, quiet)
