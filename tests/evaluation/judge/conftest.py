"""A judge behind real HTTP, and an evaluation for it to judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.cohort import read_samples
from evaluation.judge.ask import Limits
from evaluation.judge.run import Settings
from tests.evaluation.judge.fake_server import FakeServer, write_drafts


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = FakeServer()
    yield started
    started.close()


@pytest.fixture(scope="session")
def open_cohort(tiny_hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny hospital's cohort, declared open data."""
    from etl.build import build_cohort
    from etl.settings import CohortSettings

    folder = tmp_path_factory.mktemp("open") / "run"
    build_cohort(tiny_hospital, folder, CohortSettings(open_data=True))
    return folder


@pytest.fixture
def evaluation(open_cohort: Path, tmp_path: Path) -> Path:
    """Two rows: the first half of each stay's orders with a stranger's drug, and one fixed list; a failure each."""
    folder = tmp_path / "evaluation"
    samples = read_samples(open_cohort, "train")
    first = samples["hadm_id"][0]

    def half(sample: dict[str, Any]) -> list[str] | None:
        return None if sample["hadm_id"] == first else [*sample["drugs"][::2], "zidovudine"]

    write_drafts(folder, open_cohort, "half", half)
    write_drafts(folder, open_cohort, "same", lambda sample: ["aspirin", "heparin"])
    return folder


@pytest.fixture
def settings(server: FakeServer, evaluation: Path, open_cohort: Path) -> Settings:
    return Settings(
        evaluation,
        open_cohort,
        (("judge-1", server.url),),
        limits=Limits(concurrency=8, tries=3, first_wait_seconds=0.001),
        timeout_seconds=5,
    )
