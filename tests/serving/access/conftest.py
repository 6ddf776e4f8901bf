"""A small service with one route for each scope, behind the real guards and on a real store."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient

from serving.access.cds_tokens import cds_caller
from serving.access.dependencies import current, require
from serving.access.keys import make_key
from serving.access.limits import limit_drafts
from serving.access.principal import Principal, Role, Scope
from serving.access.setup import setup_access
from serving.operation.setup import setup_operation
from serving.settings import Settings
from serving.store.engine import Store, open_store
from serving.store.keys import Keys

PUBLIC_URL = "https://rx.example.org"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/rx.sqlite3")
    yield store
    store.close()


@pytest.fixture(scope="session")
def service(store: Store) -> Callable[..., FastAPI]:
    """Build the small service: its settings are given by name."""

    def build(**given: Any) -> FastAPI:
        settings = Settings(**{"public_url": PUBLIC_URL, "calls_per_minute": 100_000, **given})
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        for scope in Scope:
            for method in ("GET", "POST"):
                whoami = _whoami(scope)
                app.add_api_route(f"/{scope}", whoami, methods=[method], operation_id=f"{scope} {method}")
        app.add_api_route("/page", _page)
        app.add_api_route("/counted", _counted, methods=["POST"])
        app.add_api_route("/cds-services", _discovery)
        app.add_api_route("/cds-services/{service_id}", _called, methods=["POST"])
        setup_operation(app, settings)
        setup_access(app, settings, store)
        return app

    return build


def _whoami(scope: Scope) -> Callable[..., dict[str, str]]:
    def whoami(principal: Principal = Depends(require(scope))) -> dict[str, str]:  # noqa: B008
        return {"id": principal.id}

    return whoami


def _page(principal: Annotated[Principal | None, Depends(current)]) -> dict[str, str | None]:
    return {"id": principal and principal.id}


def _counted(request: Request, principal: Annotated[Principal, Depends(require(Scope.DRAFT))]) -> dict[str, str]:
    limit_drafts(request, principal)
    return {"id": principal.id}


def _discovery(request: Request) -> dict[str, str]:
    return {"id": cds_caller(request, None).id}


def _called(request: Request, service_id: str) -> dict[str, str]:
    return {"id": cds_caller(request, service_id).id}


@pytest.fixture
def new_key(store: Store) -> Callable[..., str]:
    """Make a key in the store and return its text."""

    def make(*roles: Role, **given: Any) -> str:
        text, kept = make_key("a ward", roles or (Role.CLINICIAN,), **given)
        Keys(store).add(kept)
        return text

    return make


@pytest.fixture(scope="session")
def client(service: Callable[..., FastAPI]) -> TestClient:
    """A caller of the service over https, as a browser or a program on another machine."""
    return TestClient(service(), base_url=PUBLIC_URL)


class Issuer:
    """Somebody who signs tokens: an identity provider or an EHR."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.ec = ec.generate_private_key(ec.SECP384R1())
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.jwks_file = folder / f"{uuid.uuid4().hex}.json"
        self.jwks_file.write_text(json.dumps({"keys": self.public_keys()}))

    def public_keys(self) -> list[dict[str, Any]]:
        return [
            {**jwt.algorithms.ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True), "kid": "ec"},
            {**jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True), "kid": "rsa"},
        ]

    def token(self, claims: dict[str, Any] | None = None, *, alg: str = "ES384", key: Any = None, **header: Any) -> str:
        """Sign; a claim or header that is None is left out."""
        now = int(time.time())
        usual = {"iss": self.name, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex, "sub": "jane"}
        held = {name: value for name, value in {**usual, **(claims or {})}.items() if value is not None}
        mine = {"ES384": self.ec, "RS384": self.rsa, "RS256": self.rsa}.get(alg)
        head = {"kid": "ec" if alg.startswith("ES") else "rsa", **header}
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(held, key if key is not None else mine, alg, head)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Issuer]:
    """Make somebody who signs tokens."""
    folder = tmp_path_factory.mktemp("keys")
    return lambda name: Issuer(name, folder)
