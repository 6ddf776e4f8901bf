"""What an attacker meets: the real `rxdraft serve` with two workers, and the service in process for many tries."""

from __future__ import annotations

import http.server
import json
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from serving.access.keys import make_key
from serving.access.principal import Role
from serving.baselines.service import load_baseline
from serving.store.engine import open_store
from serving.store.keys import Keys
from tests.serving.operation.processes import Server
from tests.serving.served import served

PROVIDER, EHR, KID = "https://login.example.org", "https://ehr.example.org", "k1"
SECRET = "a-secret-that-no-listing-of-processes-may-show"  # noqa: S105
BODY: dict[str, Any] = {"diagnoses": [{"icd_code": "I50.9", "icd_version": 10}], "age": 70}


class Trap(http.server.ThreadingHTTPServer):
    """A web server of the attacker's, which tells who came."""

    def __init__(self) -> None:
        came: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                came.append(self.path)
                self.send_error(404)

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.came, self.url = came, f"http://127.0.0.1:{self.server_port}/jwks.json"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass
class Target:
    """A running service, and what an attacker or an honest caller has to call it with.

    Attributes:
        keys: of people, by name: alice and bob draft; both reads everybody's drafts beside drafting.
        signer: private key of the provider and of the EHR.
    """

    server: Server
    keys: dict[str, str]
    signer: ec.EllipticCurvePrivateKey
    trap: Trap
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.server.port}"

    def as_(self, name: str) -> dict[str, str]:
        """Return the header of a person."""
        return {"Authorization": f"Bearer {self.keys[name]}"}

    def claims(self, path: str, **changed: Any) -> dict[str, Any]:
        """Return what a good token says, of the EHR below /cds-services and of a person elsewhere."""
        now, cds = int(time.time()), path.startswith("/cds-services")
        usual = {"iss": EHR if cds else PROVIDER, "aud": self.url + path if cds else "rxdraft", "sub": "jane"}
        usual |= {"roles": ["doctors"], "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def token(self, path: str, *, alg: str = "ES384", key: Any = None, head: Any = None, **changed: Any) -> str:
        """Sign a token for a path; a claim that is None is left out."""
        signing = self.signer if key is None else key
        return jwt.encode(self.claims(path, **changed), signing, alg, {"kid": KID, **(head or {})})

    def status(self, path: str, token: str | None) -> int:
        """Ask for a path with a token, over a connection of its own, so that any worker may answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.get(self.url + path, headers=headers, timeout=30).status_code


@pytest.fixture(scope="module")
def target(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """`rxdraft serve --workers 2`, with settings from a file and secrets from the environment."""
    folder, signer, trap = tmp_path_factory.mktemp("target"), ec.generate_private_key(ec.SECP384R1()), Trap()
    jwks, settings = folder / "jwks.json", folder / "settings.toml"
    public = jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key(), as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**public, "kid": KID}]}))
    settings.write_text(
        f"""
        drain_grace_seconds = 0
        calls_per_minute = 100000
        [[oidc]]
        issuer = "{PROVIDER}"
        audience = ["rxdraft"]
        algorithms = ["ES384"]
        jwks_file = "{jwks}"
        roles = {{ doctors = "clinician" }}
        [[cds_clients]]
        issuer = "{EHR}"
        jwks_file = "{jwks}"
        """
    )
    path = folder / "rx.sqlite3"
    secrets = {"RXDRAFT_SECRET": SECRET, "RXDRAFT_STORE": str(path), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "rxdraft", "serve", "--model", "baseline:popularity", "--data", str(tiny_cohort)]
    command += ["--settings", str(settings), "--workers", "2", "--port"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RXDRAFT_SECRET", SECRET)
        keys = keys_in(f"sqlite:///{path}")
    server = Server(["sh", "-c", f"exec {shlex.join(command)} $RXDRAFT_TEST_PORT"], folder, **secrets)
    try:
        server.wait(180)
        target = Target(server, keys, signer, trap)
        wait_ready(target.url)
        yield target
    finally:
        server.stop()
        server.process.wait(60)
        trap.shutdown()


def keys_in(url: str) -> dict[str, str]:
    """Make the keys of three people in a store, and return them by name."""
    store, texts = open_store(url), {}
    for name, roles in (
        ("alice", [Role.CLINICIAN]),
        ("bob", [Role.CLINICIAN]),
        ("both", [Role.CLINICIAN, Role.EVALUATOR]),
    ):
        texts[name], kept = make_key(name, roles)
        Keys(store).add(kept)
    store.close()
    return texts


def wait_ready(url: str) -> None:
    """Wait until drafts can be made, and ten answers in a row say so: there are two workers."""
    good = 0
    for _ in range(1200):
        good = good + 1 if httpx2.get(f"{url}/readyz").status_code == 200 else 0
        if good == 10:
            return
        time.sleep(0.05)
    raise AssertionError("not ready within a minute")


@pytest.fixture(scope="module")
def people(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """The service in process, with the same three people: people("alice") is her client."""
    url = f"sqlite:///{tmp_path_factory.mktemp('people') / 'rx.sqlite3'}"
    keys, baseline = keys_in(url), load_baseline("popularity", tiny_cohort)
    with ExitStack() as stack:
        client = stack.enter_context(served(lambda: baseline, store_url=url, dev=False))

        def person(name: str) -> Any:
            return As(client, {"Authorization": f"Bearer {keys[name]}"})

        yield person


class As:
    """A client that calls as somebody."""

    def __init__(self, client: Any, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers

    def __call__(self, method: str, path: str, *, headers: dict[str, str] | None = None, **given: Any) -> Any:
        return self.client.request(method, path, headers={**self.headers, **(headers or {})}, **given)
