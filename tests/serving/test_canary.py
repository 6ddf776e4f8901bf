"""A patient's words are sent through every route, error and crash of a real server, and looked for in every sink.

They may stand in the tables that are there to hold content, and in answers that give a draft back to who asked for it;
never in a log, a metric, a span, a URL, an error, or the audit trail.
"""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from serving.access.keys import make_key
from serving.access.principal import Role
from serving.store.engine import open_store
from serving.store.keys import Keys
from tests.serving.operation.processes import Server

WORDS = "CANARY Hong Gildong"
CANARIES = ["CANARY-MRN-81723", WORDS, "CANARY-DX-Z99", "CANARYKEY"]
MRN, _, DX, KEY = CANARIES
EHR = "https://ehr.example.org"
MAY_HOLD_CONTENT = {"drafts", "reviews", "cds_feedback"}
HEADERS = {
    "User-Agent": MRN,
    "X-Request-ID": MRN,
    "Referer": f"http://127.0.0.1/{MRN}",
    "X-Patient": WORDS,
    "Cookie": f"mrn={MRN}; rxdraft={MRN}; lang={MRN}",
    "Accept-Language": MRN,
    "Prefer": f"respond-{MRN}",
    "traceparent": MRN,
    "tracestate": f"a={MRN}",
    "X-CSRF-Token": MRN,
}
FACTS: dict[str, Any] = {
    "diagnoses": [{"icd_code": "I50.9", "icd_version": 10}, {"text": f"{DX} of {WORDS}"}],
    "age": 71,
    "previous_drugs": [MRN],
    "current_drugs": [f"warfarin {MRN}"],
    "allergies": [{"substance": WORDS}],
}


@pytest.fixture(scope="module")
def server(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    pytest.importorskip("opentelemetry.sdk", reason="spans are one of the sinks; pip install 'rxdraft[otel]'")
    folder = tmp_path_factory.mktemp("canary")
    signer, jwks, spans = ec.generate_private_key(ec.SECP384R1()), folder / "jwks.json", folder / "spans.txt"
    public = jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key(), as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "k"}]}))
    url = f"sqlite:///{folder}/rx.sqlite3"
    store = open_store(url)
    key, kept = make_key("a ward", [Role.CLINICIAN, Role.EVALUATOR, Role.ADMIN])
    Keys(store).add(kept)
    command = [sys.executable, str(Path(__file__).with_name("canary_service.py")), str(tiny_cohort), url, str(spans)]
    many = [
        "drain_grace_seconds=0",
        "calls_per_minute=100000",
        "drafts_per_minute=10000",
        "sign_ins_per_minute=10000",
        "deadline_seconds=20",
    ]
    ehr = f'cds_clients=[{{issuer = "{EHR}", jwks_file = "{jwks}"}}]'
    process = Server([*command, *many, ehr], folder)
    process.wait()
    base = f"http://127.0.0.1:{process.port}"
    with httpx2.Client(base_url=base, timeout=30, headers={"Authorization": f"Bearer {key}"}) as client:
        wait_ready(client)
        yield SimpleNamespace(
            client=client,
            process=process,
            store=store,
            spans=spans,
            key=key,
            token=lambda path: signed(signer, base + path),
        )
    process.process.terminate()
    process.process.wait(30)
    store.close()


def wait_ready(client: httpx2.Client) -> None:
    for _ in range(400):
        if client.get("/readyz").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("the model is not ready")


def signed(signer: Any, audience: str) -> str:
    now = int(time.time())
    claims = {"iss": EHR, "aud": audience, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
    return jwt.encode(claims, signer, "ES384", {"kid": "k"})


def assert_silent(answer: httpx2.Response) -> None:
    """An error says nothing of the request, in its body as in its headers; nor does any other answer's head."""
    said = str(dict(answer.headers)) + (answer.text if answer.status_code >= 400 else "")
    assert not any(canary in said for canary in CANARIES), answer.text[:500]


def bodies(path: str) -> Iterator[tuple[bytes, str]]:
    """Bodies that are wrong in each way, and say who the patient is."""
    kind = "application/json"
    for content in ({KEY: WORDS, **FACTS}, {KEY: WORDS}, [WORDS], WORDS, {"diagnoses": WORDS, "drugs": {KEY: MRN}}):
        yield json.dumps(content).encode(), kind
    for wrong in (
        {**FACTS, "age": MRN},
        {**FACTS, "sex": WORDS},
        {"item_id": WORDS, "decision": MRN, "if_version": DX},
    ):
        yield json.dumps(wrong).encode(), kind
    yield f'{{"text": "{WORDS}'.encode(), kind
    yield b"\xff" + WORDS.encode(), kind
    yield b"[" * 10_000 + WORDS.encode(), kind
    yield f"name={WORDS}".encode(), "application/x-www-form-urlencoded"
    yield json.dumps(FACTS).encode(), "text/plain"
    yield WORDS.encode() * 150_000 if "cds" in path else WORDS.encode() * 20_000, kind


def test_no_error_of_any_route_repeats_what_was_sent(server):
    routes = server.client.get("/openapi.json").json()["paths"]
    assert len(routes) > 15
    for path, methods in routes.items():
        filled = re.sub(r"\{[^}]*\}", MRN, path)
        for method in (*methods, "patch"):
            query = {"q": WORDS[:20], KEY: WORDS, "before": MRN, "version": DX, "limit": MRN, "format": DX}
            assert_silent(server.client.request(method.upper(), filled, params=query, headers=HEADERS))
            if method in ("post", "put", "patch"):
                for content, kind in bodies(path):
                    headers = {**HEADERS, "Content-Type": kind, "Idempotency-Key": f"{MRN}{uuid.uuid4()}"}
                    if path.startswith("/cds-services"):
                        headers["Authorization"] = f"Bearer {server.token(filled)}"
                    assert_silent(server.client.request(method.upper(), filled, content=content, headers=headers))


def test_a_crash_and_a_failing_database_repeat_nothing(server):
    for path, status in (("/v1/broken", 500), ("/v1/broken-store", 503)):
        answer = server.client.post(path, json={"name": WORDS, KEY: MRN}, headers=HEADERS)
        assert answer.status_code == status
        assert_silent(answer)


def test_unknown_places_methods_hosts_and_keys_repeat_nothing(server):
    client = server.client
    for answer in (
        client.get(f"/{MRN}/{WORDS}"),
        client.get(f"/v1/drafts/{MRN}/", headers=HEADERS),
        client.request(KEY, "/v1/drafts", headers=HEADERS),
        client.get("/v1/models", headers={"Host": f"{MRN}.example.org"}),
        client.get("/v1/models", headers={"Authorization": f"Bearer {MRN}"}),
        client.get("/v1/models", headers={"Authorization": f"Bearer rxd_{MRN}"}),
        client.post("/session", json={"key": WORDS}, headers={"Authorization": ""}),
        client.get("/session/callback", params={"state": MRN, "code": WORDS}),
        client.options("/v1/drafts", headers={"Origin": f"https://{KEY}.org", "Access-Control-Request-Method": KEY}),
    ):
        assert answer.status_code >= 300
        assert_silent(answer)
    assert server.process.talk(f"{WORDS} {MRN}\r\n\r\n".encode(), 1).startswith(b"HTTP/1.1 400")


def test_a_whole_life_of_a_draft_goes_by_without_a_word(server):
    client = server.client
    made = client.post("/v1/drafts", json=FACTS, headers={**HEADERS, "Idempotency-Key": MRN})
    assert made.status_code == 200, made.text
    draft = made.json()
    queued = client.post("/v1/drafts", json=FACTS, headers={**HEADERS, "Prefer": "respond-async"})
    assert queued.status_code == 202, queued.text
    assert_silent(queued)
    place, version = f"/v1/drafts/{draft['draft_id']}", draft["version"]
    for drug in draft["drugs"]:
        review = {
            "item_id": drug["item_id"],
            "decision": "reject",
            "reason_text": WORDS,
            "reason_code": "risk-benefit-ratio",
        }
        answer = client.post(f"{place}/reviews", json={**review, "if_version": version}, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        version = answer.json()["version"]
    edit = {"item_id": draft["drugs"][0]["item_id"], "decision": "edit", "edited_drug": f"{KEY} {MRN}"}
    edited = client.post(f"{place}/reviews", json={**edit, "reason_code": "risk-benefit-ratio", "if_version": version})
    assert edited.status_code == 200, edited.text
    final = client.post(f"{place}/finalize", json={"if_version": edited.json()["version"]}, headers=HEADERS)
    assert final.status_code == 200, final.text
    for path in (place, f"{place}/export?format=json", f"{place}/export?format=csv", f"{place}/fhir", "/v1/drafts"):
        answer = client.get(path, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        assert_silent(answer)
    assert (
        client.post("/v1/screen", json={"drugs": [WORDS, "warfarin"], "allergies": [{"substance": MRN}]}).status_code
        == 200
    )
    for path in ("/v1/icd", "/v1/drugs"):
        assert client.post(path, json={"q": WORDS}).status_code in (200, 503)


def test_an_ehrs_calls_go_by_without_a_word(server):
    context = {"userId": f"Practitioner/{MRN}", "patientId": MRN, "encounterId": KEY}
    patient = {"resourceType": "Patient", "id": MRN, "name": [{"text": WORDS}], "birthDate": "1950-01-01"}
    condition = {"resourceType": "Condition", "subject": {"reference": f"Patient/{MRN}"}, "code": {"text": DX}}
    order = {"resourceType": "MedicationRequest", "id": KEY, "status": "draft", "intent": "order"}
    order |= {"subject": condition["subject"], "medicationCodeableConcept": {"text": f"warfarin {WORDS}"}}
    orders = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": order}]}
    prefetch = {"patient": patient, "conditions": {"resourceType": "Bundle", "entry": [{"resource": condition}]}}
    for service in (one["id"] for one in discovered(server)):
        hook = next(hook for hook in ("patient-view", "order-select", "order-sign", service) if service.endswith(hook))
        call = {
            "hook": hook,
            "hookInstance": str(uuid.uuid4()),
            "context": {**context, "draftOrders": orders, "selections": [f"MedicationRequest/{KEY}"]},
            "prefetch": prefetch,
        }
        answer = ehr(server, f"/cds-services/{service}", call)
        assert answer.status_code in (200, 412), answer.text
        assert_silent(answer)
        feedback = {"card": str(uuid.uuid4()), "outcome": "overridden", "outcomeTimestamp": "2026-11-21T01:00:00Z",
                    "overrideReason": {"userComment": WORDS}}  # fmt: skip
        assert_silent(ehr(server, f"/cds-services/{service}/feedback", {"feedback": [feedback]}))


def discovered(server: SimpleNamespace) -> list[dict[str, Any]]:
    bearer = {"Authorization": f"Bearer {server.token('/cds-services')}"}
    return server.client.get("/cds-services", headers=bearer).json()["services"]


def ehr(server: SimpleNamespace, path: str, body: dict[str, Any]) -> httpx2.Response:
    return server.client.post(path, json=body, headers={"Authorization": f"Bearer {server.token(path)}"})


def test_afterwards_no_sink_holds_a_word_of_it(server):
    """Last in this file: all of the above has gone through the server by now."""
    time.sleep(1)  # for the queue's worker
    output, metrics, spans = server.process.output(), server.client.get("/metrics").text, server.spans.read_text()
    assert '"event": "answered"' in output
    assert "rxdraft_requests_total" in metrics
    assert "http.route" in spans
    for name, sink in (("log", output), ("metrics", metrics), ("spans", spans)):
        found = [canary for canary in CANARIES if canary in sink or canary.replace(" ", "%20") in sink]
        assert not found, (name, [line for line in sink.splitlines() if found[0] in line][:3])
    assert server.key not in output
    assert server.key.split("_")[2] not in output


def test_only_tables_that_are_there_for_content_hold_any(server):
    with server.store.reading() as con:
        tables = con.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        rows = {table: str(con.execute(text(f"SELECT * FROM {table}")).all()) for table in tables}
    assert len(rows["audit_events"]) > 1000
    holding = {table for table, content in rows.items() if any(canary in content for canary in CANARIES)}
    assert "drafts" in holding
    assert holding <= MAY_HOLD_CONTENT
