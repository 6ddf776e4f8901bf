"""A server that writes new tasks, and a run that asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etl.artefacts import sha256
from etl.augment.growth import Plan
from etl.augment.settings import Settings
from etl.outside.ask import Limits
from tests.etl.outside.fake_server import FakeServer, Reply, completion
from tests.etl.outside.fixtures import open_cohort, plain_server

__all__ = ["open_cohort", "plain_server"]


def new_tasks(body: dict[str, Any], count: int = 4) -> Reply:
    """Write tasks of words that nobody else uses; the same for the same question."""
    name = sha256(json.dumps(body["messages"]).encode())[:12]
    tasks = [
        {"instruction": f"{name}a{n} {name}b{n} {name}c{n}", "input": "", "output": f"answer {n}"} for n in range(count)
    ]
    return completion(json.dumps({"tasks": tasks}))


@pytest.fixture
def server(plain_server: FakeServer) -> FakeServer:
    """A server whose every task is new."""
    plain_server.answer = new_tasks
    return plain_server


@pytest.fixture
def settings(server: FakeServer, tmp_path: Path) -> Settings:
    return Settings(
        *(tmp_path / "corpus", "writer-1", server.url),
        plan=Plan(wanted=200),
        limits=Limits(concurrency=8, tries=3, first_wait_seconds=0.001),
        timeout_seconds=5,
    )
