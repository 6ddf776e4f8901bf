"""A judge behind real HTTP, and an evaluation for it to judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl.cohort import read_samples
from etl.outside.ask import Limits
from evaluation.judge.run import Settings
from tests.etl.outside.fake_server import FakeServer
from tests.etl.outside.fixtures import open_cohort, plain_server
from tests.evaluation.judge.opinions import opinion, write_drafts

__all__ = ["open_cohort", "plain_server"]


@pytest.fixture
def server(plain_server: FakeServer) -> FakeServer:
    """A server that approves of everything."""
    plain_server.answer = lambda body: opinion()
    return plain_server


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
