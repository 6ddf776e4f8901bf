"""Against a real server: `transformers serve` with a random model, which knows nothing and must not be certified."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl.outside.endpoint import Decoding
from evaluation.judge.judging import judge_units
from evaluation.judge.run import Settings

START_SECONDS = 120


@pytest.fixture
def real_server(random_base: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", random_base, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "serve.log").open("wb") as log:
        serving = subprocess.Popen(
            list(map(str, command)), env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            serving.terminate()
            serving.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the server did not start")


def test_a_random_model_behind_a_real_server_is_an_uncertified_judge(
    real_server: str, random_base: Path, settings: Settings
) -> None:
    from tests.evaluation.judge.opinions import write_drafts

    kept = {"left": 12}

    def few(sample: dict[str, object]) -> list[str]:
        kept["left"] -= 1
        return ["aspirin", "heparin"] if kept["left"] >= 0 else []

    write_drafts(settings.evaluation, settings.cohort, "few", few)
    asked = replace(
        settings,
        models=((str(random_base), real_server),),
        rows=("few",),
        decoys=0.3,
        decoding=Decoding(max_tokens=16),
        timeout_seconds=60,
    )
    judged = judge_units(asked)
    card = judged.card
    assert card["certified"] is False
    assert judged.rows["few"].badge.startswith("UNCERTIFIED JUDGE")
    assert judged.rows["few"].value is None
    assert sum(card["states"].values()) == card["n_items"] > 24
    assert set(card["states"]) <= {"truncated", "malformed"}
    [model] = card["models"]
    assert model["returned"] == [f"{random_base}@main"]
    assert card["usage"]["tokens_in"] > 0
    assert judge_units(asked).tallies[0].asked == 0
