"""The real process: `rxdraft serve` from start to SIGTERM, and what it prints on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import rxdraft
from tests.serving.served import drafted

CANARIES = ("CANARY-MRN-81723", "CANARY Hong Gildong", "CANARY-DX-Z99")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(checkpoint: Path, output: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "rxdraft", "--verbose", "serve", "--model", str(checkpoint), "--port", str(port)]
    # A home of its own: no store and no cache of whoever runs the tests.
    home = {"XDG_DATA_HOME": str(output.parent / "data"), "XDG_CACHE_HOME": str(output.parent / "cache")}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **home},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {output.read_text()}")
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} did not answer 200 within a minute: {output.read_text()}")


@dataclass
class Life:
    """What one server did from start to end."""

    draft: httpx2.Response
    refused: list[httpx2.Response]
    health: httpx2.Response
    exit_code: int
    seconds_to_end: float
    output: str


def hostile_calls(url: str, body: dict[str, Any], caller: dict[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Calls that hold canaries wherever a client can put one."""
    record, name, diagnosis = CANARIES
    told = {"X-Request-ID": record, "X-Patient": name, "User-Agent": diagnosis, "Cookie": f"patient={record}"}
    headers = {**told, **caller}
    for content in (
        {**body, name: record},
        {"age": record, "sex": name},
        {"diagnoses": [{"text": diagnosis, "icd_code": record}]},
        [record, name, diagnosis],
    ):
        yield "POST", f"{url}/v1/drafts", {"json": content, "headers": headers, "params": {"name": name}}
    yield "POST", f"{url}/v1/drafts", {"content": f'{{"name": "{name}'.encode(), "headers": headers}
    yield "POST", f"{url}/v1/drafts", {"content": f"{name} {record} ".encode() * 20_000, "headers": headers}
    yield "GET", f"{url}/{record}", {"headers": headers, "params": {name: diagnosis}}
    yield "PUT", f"{url}/v1/drafts", {"headers": headers, "params": {name: diagnosis}}


@pytest.fixture(scope="module")
def life(checkpoint: Path, body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Start a server that logs every step, ask it everything, end it."""
    output, port = tmp_path_factory.mktemp("server") / "output.txt", free_port()
    url = f"http://127.0.0.1:{port}"
    quick = ("--set", "drain_grace_seconds=0.2", "--set", "log_level=DEBUG")
    with serving(checkpoint, output, port, *quick) as process:
        wait_for(f"{url}/readyz", process, output)
        key = output.parent / "data" / "rxdraft" / "first-key"  # nobody sits at a terminal
        caller = {"Authorization": f"Bearer {key.read_text().strip()}"}
        draft = httpx2.post(f"{url}/v1/drafts", json=body, headers=caller, timeout=30)
        secret = {**body, "diagnoses": [*body["diagnoses"], {"text": CANARIES[2]}], "previous_drugs": [CANARIES[1]]}
        asked = {"json": secret, "params": {"mrn": CANARIES[0]}, "headers": caller, "timeout": 30}
        httpx2.post(f"{url}/v1/drafts", **asked).raise_for_status()
        refused = [httpx2.request(method, to, **what) for method, to, what in hostile_calls(url, body, caller)]
        health = httpx2.get(f"{url}/healthz")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        seconds = time.monotonic() - began
    return Life(draft, refused, health, code, seconds, output.read_text())


def test_the_server_drafts_a_list(life: Life, checkpoint):
    assert life.draft.status_code == 200
    draft = life.draft.json()
    assert draft["status"] == "draft"
    assert draft["drugs"]
    assert draft["model"]["adapter_sha256"] == json.loads((checkpoint / "manifest.json").read_text())["weights_sha256"]


def test_the_server_lives_through_every_hostile_call(life: Life):
    assert [answer.status_code for answer in life.refused] == [422, 422, 422, 422, 415, 413, 404, 405]
    assert life.health.status_code == 200


def test_no_answer_repeats_what_a_client_sent(life: Life):
    for answer in life.refused:
        said = answer.text + str(dict(answer.headers))
        assert not [canary for canary in CANARIES if canary in said]


def test_nothing_a_client_sent_is_printed_even_when_every_step_is_logged(life: Life):
    assert life.output.count("/v1/drafts") > 2  # it did log the drafts
    assert "CANARY" not in life.output
    assert "CANARY" not in life.output.replace("%20", " ").replace("+", " ").upper()


def test_no_drug_of_a_draft_is_printed(life: Life):
    assert not [item["drug"] for item in life.draft.json()["drugs"] if item["drug"] in life.output]


def test_sigterm_ends_the_server_within_seconds(life: Life):
    assert life.seconds_to_end < 10


def test_a_server_ended_by_sigterm_says_success(life: Life):
    assert life.exit_code == 0, life.output


def test_no_traceback_is_printed_over_a_servers_life(life: Life):
    assert "Traceback" not in life.output


# --- starts that fail -----------------------------------------------------------------------------------


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rxdraft", *arguments], capture_output=True, text=True, timeout=150, check=False
    )


def test_a_wrong_model_folder_is_one_line_and_exit_status_2(tmp_path):
    result = run_cli("serve", "--model", str(tmp_path), "--port", "0")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path) in result.stderr


@pytest.fixture(scope="module", params=[(), ("--workers", "2")], ids=["alone", "with workers"])
def damaged(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """What `rxdraft serve` did with an adapter whose last byte is gone."""
    copied = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("damaged") / "checkpoint"))
    weights = copied / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    store = ("--dev", "--store", str(copied.parent / "store.sqlite3"))
    return run_cli("serve", "--model", str(copied), "--port", "0", *store, *request.param)


def test_a_damaged_adapter_ends_the_server_with_status_2(damaged):
    assert damaged.returncode == 2
    [told] = [line for line in damaged.stderr.splitlines() if line.startswith("rxdraft: ")]
    assert "is not what its manifest was written for" in told


def test_a_damaged_adapter_is_told_in_one_line(damaged):
    """Lines of the log may stand around it, a traceback or a second telling may not."""
    ours = [line for line in damaged.stderr.splitlines() if not line.startswith('{"event"')]
    assert len(ours) == 1, damaged.stderr


# --- without a server -----------------------------------------------------------------------------------


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rxdraft", *arguments])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    return int(ended.value.code or 0)


def test_recommend_prints_the_draft_the_server_gives(life: Life, checkpoint, body, tmp_path, monkeypatch, capsys):
    file = tmp_path / "admission.json"
    file.write_text(json.dumps(body))
    assert run_here(monkeypatch, "recommend", "--model", str(checkpoint), "--json", str(file)) == 0
    assert json.loads(capsys.readouterr().out) == drafted(life.draft.json())


def test_recommend_reads_an_admission_from_stdin(life: Life, checkpoint, body, monkeypatch, capsys):
    import io

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(body).encode())))
    assert run_here(monkeypatch, "recommend", "--model", str(checkpoint), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["drugs"] == life.draft.json()["drugs"]


def test_one_list_is_the_list_of_a_checkpoint_without_calibration(checkpoint, body, tmp_path, monkeypatch, capsys):
    (tmp_path / "admission.json").write_text(json.dumps(body))
    options = ["recommend", "--model", str(checkpoint), "--json", str(tmp_path / "admission.json")]
    assert run_here(monkeypatch, *options) == run_here(monkeypatch, *options, "--k", "1") == 0
    decode, printed = json.JSONDecoder().raw_decode, capsys.readouterr().out
    first, end = decode(printed)
    second, _ = decode(printed[end:].lstrip())
    assert first["drugs"] == second["drugs"]
    assert run_here(monkeypatch, *options, "--k", "5") == 2
    assert "wanted 1" in capsys.readouterr().err


BAD = {
    "no JSON": f'{{"name": "{CANARIES[1]}',
    "a wrong value": json.dumps({"diagnoses": [{"text": "x"}], "age": CANARIES[0]}),
    "a key of the client's": json.dumps({"diagnoses": [{"text": "x"}], CANARIES[0]: 1}),
    "no diagnosis": json.dumps({"diagnoses": [], "sex": CANARIES[0]}),
    "several mistakes": json.dumps({"diagnoses": [{"icd_code": CANARIES[2]}], "age": CANARIES[0], "sex": CANARIES[1]}),
    "a list": json.dumps(list(CANARIES)),
    "nothing": "",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_bad_json_is_one_line_without_its_values(content, checkpoint, tmp_path, monkeypatch, capsys):
    file = tmp_path / "admission.json"
    file.write_text(content)
    assert run_here(monkeypatch, "recommend", "--model", str(checkpoint), "--json", str(file)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("rxdraft: ")
    assert "CANARY" not in err


def test_a_file_that_is_no_text_is_one_line_too(checkpoint, tmp_path, monkeypatch, capsys):
    file = tmp_path / "admission.json"
    file.write_bytes(b"\xff\xfe{}")
    assert run_here(monkeypatch, "recommend", "--model", str(checkpoint), "--json", str(file)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_admission_file_is_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    assert run_here(monkeypatch, "recommend", "--model", str(checkpoint), "--json", str(tmp_path / "no.json")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
