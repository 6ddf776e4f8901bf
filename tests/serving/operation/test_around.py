"""What surrounds every route: headers, request ids, counts, CORS, spans."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serving.operation import metrics
from serving.operation.headers import CONTENT_SECURITY_POLICY
from serving.operation.setup import setup_operation
from serving.operation.tracing import Tracing
from serving.settings import Settings

HERE, EHR = "https://rx.example.org", "https://ehr.example.org"
CANARY = "CANARY-MRN-81723"


def build(**given: Any) -> FastAPI:
    app = FastAPI(redirect_slashes=False)

    @app.get("/v1/things/{thing}")
    def thing(thing: str) -> dict[str, str]:
        return {"thing": thing}

    @app.get("/broken")
    def broken() -> None:
        raise ValueError(CANARY)

    @app.get("/refused")
    def refused() -> None:
        raise HTTPException(403)

    @app.get("/static")
    def static() -> PlainTextResponse:
        return PlainTextResponse("x", headers={"Cache-Control": "max-age=60"})

    @app.get("/metrics")
    def exposed() -> PlainTextResponse:
        return PlainTextResponse(metrics.exposition()[0])

    setup_operation(app, Settings(**{"public_url": HERE, "cors_origins": [EHR], **given}))
    return app


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(build(), base_url=HERE)


EVERYWHERE = ["/v1/things/1", "/broken", "/refused", "/nowhere", "/static"]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_has_the_headers_that_protect_it(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("max-age=60" if path == "/static" else "no-store")
    assert headers["strict-transport-security"]
    assert "server" not in headers


def test_a_preflight_and_a_foreign_host_have_them_too(client):
    preflight = client.options("/broken", headers={"Origin": EHR, "Access-Control-Request-Method": "POST"})
    foreign = client.get("/static", headers={"Host": "evil.example.org"})
    assert (preflight.status_code, foreign.status_code) == (200, 400)
    assert all("content-security-policy" in answer.headers for answer in (preflight, foreign))
    assert all("x-request-id" in answer.headers for answer in (preflight, foreign))


def test_over_http_no_browser_is_told_to_stay_on_https():
    client = TestClient(build(public_url="http://127.0.0.1:8000"), base_url="http://127.0.0.1:8000")
    assert "strict-transport-security" not in client.get("/static").headers


def test_a_listed_origin_may_read_even_a_500_and_no_other_may(client):
    assert client.get("/broken", headers={"Origin": EHR}).headers["access-control-allow-origin"] == EHR
    other = client.get("/v1/things/1", headers={"Origin": "https://evil.example.org"})
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-credentials" not in client.get("/static", headers={"Origin": EHR}).headers


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"Origin": EHR, "Access-Control-Request-Method": "POST"}, 200),
        (
            {
                "Origin": EHR,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type",
            },
            200,
        ),
        ({"Origin": EHR, "Access-Control-Request-Method": "DELETE"}, 400),
        ({"Origin": "https://evil.example.org", "Access-Control-Request-Method": "POST"}, 400),
        ({"Origin": "null", "Access-Control-Request-Method": "POST"}, 400),
        ({"Origin": f"{EHR}.evil.org", "Access-Control-Request-Method": "POST"}, 400),
        (
            {
                "Origin": EHR,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-csrf-token",
            },
            400,
        ),
    ],
)
def test_a_preflight_is_answered_by_the_list(client, asked, status):
    answer = client.options("/v1/things/1", headers=asked)
    assert answer.status_code == status
    assert status == 400 or answer.headers["access-control-max-age"] == "600"


def test_without_a_list_there_is_no_cors():
    client = TestClient(build(cors_origins=[]), base_url=HERE)
    assert "access-control-allow-origin" not in client.get("/static", headers={"Origin": EHR}).headers


UUID = "0069c3d8-e3db-43de-911f-54b28588e283"


@pytest.mark.parametrize("offered", [UUID, UUID.upper(), UUID.replace("-", "")])
def test_a_callers_request_id_is_taken_if_it_is_a_uuid(client, offered):
    assert client.get("/static", headers={"X-Request-ID": offered}).headers["x-request-id"] == UUID.replace("-", "")


@given(offered=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60))
def test_any_other_is_replaced(client, offered):
    answer = client.get("/static", headers={"X-Request-ID": offered.encode("latin-1")})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_counts_know_templates_and_no_paths(client):
    client.get(f"/v1/things/{CANARY}?q={CANARY}")
    client.get(f"/{CANARY}")
    client.request("CANARYMRN81723", "/static")
    exposed = client.get("/metrics").text
    assert 'rxdraft_requests_total{method="GET",route="/v1/things/{thing}",status="2xx"}' in exposed
    assert 'route="unmatched",status="4xx"' in exposed
    assert 'method="other"' in exposed
    assert "CANARY" not in exposed


def test_every_small_counter_counts():
    before = metrics.exposition()[0].decode()
    metrics.draft_made("ready", 0.2)
    metrics.set_queue_waiting(3)
    metrics.review_made("accept")
    metrics.alert_shown("onc-1", "critical")
    metrics.alert_overridden("onc-1")
    metrics.store_failed()
    metrics.set_engine_state("default", "open")
    after = metrics.exposition()[0].decode()
    changed = {line.split("{")[0].split()[0] for line in set(after.splitlines()) - set(before.splitlines())}
    wanted = {
        *("rxdraft_drafts_total", "rxdraft_draft_seconds_sum", "rxdraft_queue_waiting", "rxdraft_reviews_total"),
        *("rxdraft_alerts_total", "rxdraft_overrides_total", "rxdraft_store_errors_total", "rxdraft_engine"),
    }
    assert wanted <= changed
    assert 'rxdraft_engine{model="default",state="ready"} 0.0' in after


def test_a_span_knows_the_route_and_the_status_and_nothing_else():
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = build()
    app.add_middleware(Tracing, tracer=provider.get_tracer("test"))
    client = TestClient(app, base_url=HERE)
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.get(f"/v1/things/{CANARY}?q={CANARY}", headers={"traceparent": caller, "tracestate": f"a={CANARY}"})
    client.get(f"/broken?q={CANARY}", headers={"traceparent": CANARY})
    known, broken = spans.get_finished_spans()
    assert (known.name, broken.name) == ("GET /v1/things/{thing}", "GET /broken")
    assert known.attributes["http.response.status_code"] == 200
    assert broken.attributes["http.response.status_code"] == 500
    assert known.parent.trace_id == int("0af7651916cd43dd8448eb211c80319c", 16)
    assert broken.parent is None
    assert CANARY not in known.to_json() + broken.to_json()
