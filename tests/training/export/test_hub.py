"""Nothing goes to the hub unasked, unconfirmed or in public; what goes there is the folder, whole."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi

from etl.errors import ConfigError
from etl.outside.firewall import Provenance
from training.export.export import export_model
from training.export.hub import check_push, push
from training.manifest import read_manifest

Make = Callable[..., Path]
COHORT = "c0ffeec0ffee"


class FakeHub(ThreadingHTTPServer):
    """The part of the hub's HTTP protocol that an upload of small files speaks; keeps what it is told."""

    def __init__(self, private: bool | None = None, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private, self.status = private, status  # private is None: there is no repository yet
        self.calls: list[str] = []
        self.files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.calls.append(f"{method} {path}")
        if self.status != 200:
            return self.status, {"error": "no"}
        if path == "/api/repos/create":
            if self.private is not None:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/me/drafts"}
            self.private = json.loads(body).get("visibility") == "private"
            return 200, {"url": f"{self.url}/me/drafts"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            named = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in named]}
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self.url}/me/drafts/commit/1", "commitOid": "1"}
        return 200, {"id": "me/drafts", "private": self.private, "siblings": [], "sha": "0" * 40, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = self.server.answer(method, self.path.partition("?")[0], body)
        told = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def start_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeHub]]:
    """Start a hub on this machine, the only one that a test can reach."""
    running: list[FakeHub] = []

    def start(**settings: Any) -> FakeHub:
        hub = FakeHub(**settings)
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        running.append(hub)
        return hub

    yield start
    for hub in running:
        hub.shutdown()
        hub.server_close()


def api(hub: FakeHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_fake")


@pytest.fixture
def exported(make_checkpoint: Make, tmp_path: Path) -> Path:
    export_model(make_checkpoint(), tmp_path / "out")
    return tmp_path / "out"


def test_a_new_repository_is_private_and_holds_every_file(exported: Path, start_hub: Callable[..., FakeHub]) -> None:
    hub = start_hub()
    url = push(exported, "me/drafts", Provenance.CREDENTIALED, api(hub))
    assert url == f"{hub.url}/me/drafts"
    assert hub.private is True
    assert hub.files == {path.name: path.read_bytes() for path in exported.iterdir()}


def test_credentialed_data_never_go_to_a_public_repository(exported: Path, start_hub: Callable[..., FakeHub]) -> None:
    hub = start_hub(private=False)
    with pytest.raises(ConfigError, match="me/drafts is public, and the data are credentialed"):
        push(exported, "me/drafts", Provenance.CREDENTIALED, api(hub))
    assert not hub.files
    assert not any("commit" in call or "preupload" in call for call in hub.calls)


def test_a_private_repository_that_stands_takes_them(exported: Path, start_hub: Callable[..., FakeHub]) -> None:
    hub = start_hub(private=True)
    push(exported, "me/drafts", Provenance.CREDENTIALED, api(hub))
    assert "adapter_model.safetensors" in hub.files


def test_open_data_may_go_to_a_public_repository_that_stands(exported: Path, start_hub: Callable[..., FakeHub]) -> None:
    hub = start_hub(private=False)
    push(exported, "me/drafts", Provenance.DEMO, api(hub))
    assert "README.md" in hub.files


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_hub_is_one_line_and_the_export_stands(
    exported: Path, start_hub: Callable[..., FakeHub], status: int
) -> None:
    hub = start_hub(status=status)
    with pytest.raises(ConfigError, match="log in with `hf auth login`") as caught:
        push(exported, "me/drafts", Provenance.CREDENTIALED, api(hub))
    assert "\n" not in str(caught.value)
    assert "hf_fake" not in str(caught.value)
    assert (exported / "README.md").is_file()


def test_a_machine_without_network_is_one_line(exported: Path) -> None:
    """The tests' own: every request is refused before it leaves."""
    with pytest.raises(ConfigError, match=r"not pushed to me/drafts \(OfflineModeIsEnabled\)"):
        push(exported, "me/drafts", Provenance.CREDENTIALED)


# --- before anything is written ------------------------------------------------------------------------


def test_credentialed_data_are_refused_until_the_cohort_is_named(make_checkpoint: Make) -> None:
    manifest = read_manifest(make_checkpoint())
    for confirmed in (None, "yes", "true", "c0ffeec0ffef", COHORT[:8], ""):
        with pytest.raises(ConfigError, match=f"credentialed data, cohort {COHORT}.*--yes-credentialed-data {COHORT}"):
            check_push(manifest, "me/drafts", "meta-llama/Llama-3.1-8B", False, confirmed)
    check_push(manifest, "me/drafts", "meta-llama/Llama-3.1-8B", False, COHORT)


def test_data_are_credentialed_unless_they_were_said_to_be_open(
    make_checkpoint: Make, redescribed: Callable[..., None]
) -> None:
    checkpoint = make_checkpoint(open_data=True)
    check_push(read_manifest(checkpoint), "me/drafts", "meta-llama/Llama-3.1-8B", False, None)
    for settings in ({}, {"open_data": "yes"}, {"open_data": 1}, {"open_data": None}):
        redescribed(checkpoint, cohort_settings=settings)
        with pytest.raises(ConfigError, match="credentialed data"):
            check_push(read_manifest(checkpoint), "me/drafts", "meta-llama/Llama-3.1-8B", False, None)


def test_an_adapter_over_a_folder_of_this_machine_is_refused_and_a_whole_model_is_not(
    make_checkpoint: Make, random_base: Path
) -> None:
    manifest = read_manifest(make_checkpoint(open_data=True))
    with pytest.raises(ConfigError, match="give --base with its hub id, or --merge") as caught:
        check_push(manifest, "me/drafts", str(random_base), False, None)
    assert str(random_base.parent) not in str(caught.value)
    check_push(manifest, "me/drafts", str(random_base), True, None)


def test_every_reason_is_named_at_once(make_checkpoint: Make, random_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"OWNER/NAME; its base .*; it was made from credentialed data"):
        check_push(read_manifest(make_checkpoint()), "drafts", str(random_base), False, None)
