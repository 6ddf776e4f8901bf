"""Every route of the whole service: who may call it, so that a new one is not open by oversight."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from serving.access.principal import Role
from serving.app import create_app
from serving.settings import Settings
from serving.store.drafts import Drafts
from serving.store.records import NewDraft

HERE = "https://rx.example.org"
OPEN_TO_ALL = {
    *(("GET", "/healthz"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json")),
    *(("POST", "/session"), ("GET", "/session/oidc/{provider}"), ("GET", "/session/callback")),
}
PATIENTS = "/v1/drafts"
"""Below it, everything is about a patient."""


@pytest.fixture(scope="module")
def app(store) -> FastAPI:
    """The service as it is assembled, with a model that is never loaded: who may call is asked before that."""
    return create_app(lambda: pytest.fail("loaded"), Settings(public_url=HERE, calls_per_minute=100_000), store)


@pytest.fixture(scope="module")
def client(app) -> TestClient:
    return TestClient(app, base_url=HERE, follow_redirects=False)


@pytest.fixture(scope="module")
def operations(app) -> list[tuple[str, str]]:
    documented = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    assert len(documented) > 20
    return [one for one in documented if one not in OPEN_TO_ALL]


def call(client: TestClient, operation: tuple[str, str], **headers: str) -> int:
    method, template = operation
    path = re.sub(r"\{[^}]*\}", "rx-safety-order-sign" if "cds" in template else "x", template)
    return client.request(method, path, headers=headers, json={} if method == "POST" else None).status_code


def test_nobody_gets_further_than_the_door(client, operations):
    assert {operation: status for operation in operations if (status := call(client, operation)) != 401} == {}


def test_a_wrong_key_opens_nothing(client, operations):
    wrong = {"Authorization": f"Bearer rxd_{'0' * 12}_{'0' * 64}"}
    statuses = {operation: call(client, operation, **wrong) for operation in operations}
    assert set(statuses.values()) <= {401, 429}


def test_an_admin_sees_no_draft_and_changes_none(client, operations, new_key):
    admin = {"Authorization": f"Bearer {new_key(Role.ADMIN)}"}
    about_patients = [operation for operation in operations if operation[1].startswith((PATIENTS, "/v1/screen"))]
    assert len(about_patients) >= 7
    assert {call(client, operation, **admin) for operation in about_patients} == {403}


def test_an_evaluator_changes_nothing(client, operations, new_key):
    evaluator = {"Authorization": f"Bearer {new_key(Role.EVALUATOR)}"}
    changes = [(method, path) for method, path in operations if method != "GET" and path.startswith(PATIENTS)]
    assert len(changes) >= 4
    assert {call(client, operation, **evaluator) for operation in changes} == {403}


def test_pages_send_strangers_to_sign_in_and_show_them_nothing(client):
    for path in ("/", "/drafts", "/drafts/x", "/drafts/x/print"):
        answer = client.get(path)
        assert answer.status_code in (302, 303, 307), path
        assert answer.headers["location"].startswith("/sign-in")


def test_every_route_that_is_not_documented_is_a_page(app):
    """Documented routes are tried above; what is hidden from the schema must be a page or a page's file."""
    documented = set(app.openapi()["paths"])
    paths = {context.path for context in iter_route_contexts(app.routes)}
    assert documented < paths
    allowed = r"/(openapi\.json|static/.*|sign-in|drafts.*|about/.*|)"
    assert not [path for path in paths - documented if not re.fullmatch(allowed, path)]


def test_a_draft_of_somebody_else_is_as_unknown_as_none(client, new_key, store):
    Drafts(store).record(NewDraft("d-of-jane", "oidc:jane", "api", {}, {"drugs": []}))
    stranger = {"Authorization": f"Bearer {new_key()}"}
    for path in ("", "/export?format=json", "/fhir"):
        theirs, none = (client.get(f"/v1/drafts/{one}{path}", headers=stranger) for one in ("d-of-jane", "d-of-none"))
        assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found")
        assert theirs.json() | {"request_id": 0} == none.json() | {"request_id": 0}
    for action, body in (
        ("cancel", {}),
        ("finalize", {"if_version": 1}),
        ("reviews", {"item_id": "i1", "decision": "accept", "if_version": 1}),
    ):
        assert client.post(f"/v1/drafts/d-of-jane/{action}", json=body, headers=stranger).status_code == 404
    assert client.get("/v1/drafts", headers=stranger).json()["drafts"] == []
