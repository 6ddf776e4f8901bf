"""The small service, started in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.operation.processes import Server

SMALL_APP = Path(__file__).with_name("small_service.py")


@pytest.fixture(scope="module")
def small_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start `small_service.py`, with names and values of its settings; killed at the end."""
    started: list[Server] = []
    folder = tmp_path_factory.mktemp("server")

    def start(*settings: str, **environment: str) -> Server:
        server = Server([sys.executable, str(SMALL_APP), *settings], folder, **environment)
        started.append(server)
        server.wait()
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
