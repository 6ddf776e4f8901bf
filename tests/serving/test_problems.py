"""Errors: one form on native routes, another for CDS Hooks, and nothing of the request in either."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from etl.prompts import TooLongError
from serving.operation.body_limit import MAX_BODY_BYTES, MAX_CDS_BODY_BYTES
from serving.operation.setup import setup_operation
from serving.problems import CODES, ProblemError, code_of, declared, read_json
from serving.recommendation import BusyError, LateError
from serving.settings import Settings
from serving.store import errors as store_errors

CANARY = "CANARY-MRN-81723"
FHIR_ISSUE_TYPES = {
    *("invalid", "structure", "required", "login", "forbidden", "not-supported", "not-found", "too-long"),
    *("conflict", "processing", "transient", "throttled", "timeout", "exception"),
}


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid")

    age: int
    drugs: list[str] = []


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI(redirect_slashes=False)

    @app.post("/v1/facts")
    def facts(facts: Facts) -> Facts:
        return facts

    @app.get("/v1/code/{code}")
    @app.get("/cds-services/code/{code}")
    def code(code: str) -> None:
        raise ProblemError(code)

    @app.post("/cds-services/any")
    @app.post("/v1/any")
    async def any_json(request: Request) -> dict[str, str]:
        return {"type": type(await read_json(request)).__name__}

    @app.post("/v1/break")
    def break_(facts: Facts) -> None:
        raise KeyError(f"{facts.drugs}")

    setup_operation(app, Settings())
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=True)


def native(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content.keys() - {"errors"} == {"type", "title", "status", "code", "request_id"}
    assert content["status"] == answer.status_code
    assert content["request_id"] == answer.headers["x-request-id"]
    assert CANARY not in answer.text + str(answer.headers)
    return content


def outcome(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert content.keys() == {"resourceType", "issue"}
    [issue] = content["issue"]
    assert issue.keys() == {"severity", "code", "details", "diagnostics"}
    assert issue["diagnostics"] == f"request_id={answer.headers['x-request-id']}"
    assert CANARY not in answer.text + str(answer.headers)
    return issue


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_two_forms(client, code):
    status, title, issue_type = CODES[code]
    content = native(client.get(f"/v1/code/{code}"))
    assert (content["code"], content["status"], content["title"]) == (code, status, title)
    issue = outcome(client.get(f"/cds-services/code/{code}"))
    assert (issue["code"], issue["details"]["text"]) == (issue_type, title)
    assert issue_type in FHIR_ISSUE_TYPES


@pytest.mark.parametrize("code", [code for code, (status, *_) in CODES.items() if status in (429, 503)])
def test_who_shall_come_again_is_told_when(client, code):
    if code == "rate_limited":
        assert ProblemError(code, retry_after=0.2).headers() == {"Retry-After": "1"}
    else:
        assert int(client.get(f"/v1/code/{code}").headers["retry-after"]) >= 1


WRONG: dict[str, tuple[Any, list[dict[str, str]]]] = {
    "a missing field": ({}, [{"at": "body/age", "kind": "missing"}]),
    "a wrong type": ({"age": CANARY}, [{"at": "body/age", "kind": "int_parsing"}]),
    "an extra key": ({"age": 1, CANARY: 1}, [{"at": "body/<key>", "kind": "extra_forbidden"}]),
    "a wrong item": ({"age": 1, "drugs": ["a", 1]}, [{"at": "body/drugs/1", "kind": "string_type"}]),
    "a list": ([CANARY], [{"at": "body", "kind": "model_attributes_type"}]),
}


@pytest.mark.parametrize(("body", "errors"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_told_by_place_and_kind(client, body, errors):
    content = native(client.post("/v1/facts", json=body))
    assert (content["code"], content["errors"]) == ("invalid", errors)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "text/json", "multipart/form-data; boundary=x"]
)
@pytest.mark.parametrize("path", ["/v1/facts", "/v1/any"])
def test_a_body_that_does_not_say_it_is_json_is_refused(client, kind, path):
    answer = client.post(path, content=b'{"age": 1}', headers={"Content-Type": kind})
    assert (answer.status_code, native(answer)["code"]) == (415, "not_json")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/fhir+json"])
def test_a_body_that_says_so_is_read(client, kind):
    assert client.post("/v1/any", content=b'{"age": 1}', headers={"Content-Type": kind}).json() == {"type": "dict"}


@pytest.mark.parametrize("path", ["/v1/facts", "/v1/any", "/cds-services/any"])
def test_what_is_no_json_is_told_so(client, path):
    answer = client.post(path, content=f'{{"{CANARY}'.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert CANARY not in answer.text


HOSTILE = [
    *(b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"\xff\xfe", b"{"),
    *(b'{"age": ' + b"9" * 5_000 + b"}", b"", b"\x00", b'{"age": 1e999999}', CANARY.encode()),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", ["/v1/facts", "/v1/any", "/cds-services/any"])
def test_hostile_json_is_the_callers_error(client, path, content):
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in ({200, 400, 422} if path.endswith("any") else {400, 422}), answer.text
    if answer.status_code != 200:
        _ = outcome(answer) if path.startswith("/cds") else native(answer)


@given(content=st.binary(max_size=60) | st.text(max_size=30).map(lambda text: json.dumps({text: text}).encode()))
def test_no_bytes_break_the_service(client, content):
    answer = client.post("/v1/facts", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422)


def test_bodies_over_the_limit_are_refused_and_cds_may_send_more(client):
    def post(path: str, size: int, chunked: bool) -> int:
        body = b'"' + b"x" * (size - 2) + b'"'
        content = iter([body[: size // 2], body[size // 2 :]]) if chunked else body
        answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200 or CANARY not in answer.text
        return answer.status_code

    for chunked in (False, True):
        assert post("/v1/any", MAX_BODY_BYTES, chunked) == 200
        assert post("/v1/any", MAX_BODY_BYTES + 1, chunked) == 413
        assert post("/cds-services/any", MAX_CDS_BODY_BYTES, chunked) == 200
        assert post("/cds-services/any", MAX_CDS_BODY_BYTES + 1, chunked) == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/{CANARY}", 404, "not_found"),
        ("GET", f"/v1/facts/?mrn={CANARY}", 404, "not_found"),
        ("PUT", "/v1/facts", 405, "method_not_allowed"),
        (CANARY.replace("-", ""), "/v1/facts", 405, "method_not_allowed"),
    ],
)
def test_unknown_places_and_methods_echo_nothing(client, method, path, status, code):
    answer = client.request(method, path)
    assert (answer.status_code, native(answer)["code"]) == (status, code)


def test_an_unforeseen_error_is_a_bare_500_and_the_log_tells_where_but_not_what(client, caplog):
    answer = client.post("/v1/break", json={"age": 1, "drugs": [CANARY]})
    assert (answer.status_code, native(answer)["code"]) == (500, "internal_error")
    assert "KeyError" in caplog.text
    assert "break_" in caplog.text
    assert CANARY not in caplog.text


def test_errors_of_other_parts_have_codes():
    assert code_of(BusyError("x")) == "busy"
    assert code_of(LateError("x")) == "late"
    assert code_of(TooLongError("x")) == "too_long"
    assert code_of(ZeroDivisionError()) == "internal_error"
    kinds = [kind for kind in vars(store_errors).values() if getattr(kind, "__module__", "") == store_errors.__name__]
    assert len(kinds) > 6
    unknown = {kind.__name__ for kind in kinds if code_of(kind("x")) == "internal_error"}
    assert unknown == {"RecordError", "LeaseLostError"}  # no route meets these


def test_routes_declare_problems_by_status():
    responses = declared("busy", "not_ready", "rate_limited")
    assert list(responses) == [429, 503]
    assert list(responses[503]["content"]) == ["application/problem+json"]
