"""A server behind real HTTP, and data that may go to any: for every conftest whose tests ask models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.etl.outside.fake_server import FakeServer


@pytest.fixture
def plain_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = FakeServer()
    yield started
    started.close()


@pytest.fixture
def server(plain_server: FakeServer) -> FakeServer:
    """What a test asks; a conftest may give it something to say."""
    return plain_server


@pytest.fixture(scope="session")
def open_cohort(tiny_hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny hospital's cohort, declared open data."""
    from etl.build import build_cohort
    from etl.settings import CohortSettings

    folder = tmp_path_factory.mktemp("open") / "run"
    build_cohort(tiny_hospital, folder, CohortSettings(open_data=True))
    return folder
