"""A patient's words are sent through every route, error and crash of a real server, and looked for in every sink.

They may stand in the tables that are there to hold content, and in answers that give a draft back to who asked for it;
never in a log, a metric, a span, a URL, an error, or the audit trail.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
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
UNNAMED = {"/openapi.json"}
"""Of Starlette, which tells the log no template."""
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
    signer, jwks = ec.generate_private_key(ec.SECP384R1()), folder / "jwks.json"
    public = jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key(), as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "k"}]}))
    url = f"sqlite:///{folder}/rx.sqlite3"
    store = open_store(url)
    key, kept = make_key("a ward", [Role.CLINICIAN, Role.EVALUATOR, Role.ADMIN])
    Keys(store).add(kept)
    command = [sys.executable, str(Path(__file__).with_name("canary_service.py")), str(tiny_cohort), url, str(folder)]
    many = [
        "drain_grace_seconds=0",
        "calls_per_minute=100000",
        "drafts_per_minute=10000",
        "sign_ins_per_minute=10000",
        "deadline_seconds=20",
    ]
    ehr = f'cds_clients=[{{issuer = "{EHR}", jwks_file = "{jwks}"}}]'
    login = f'oidc=[{{issuer = "{EHR}", audience = ["x"], jwks_file = "{jwks}", roles = {{}}, client_id = "x", '
    login += 'authorize_url = "http://127.0.0.1:9/authorize", token_url = "http://127.0.0.1:9/token"}]'
    process = Server([*command, *many, ehr, login], folder)
    process.wait()
    base = f"http://127.0.0.1:{process.port}"
    with httpx2.Client(base_url=base, timeout=30, headers={"Authorization": f"Bearer {key}"}) as client:
        wait_ready(client)
        yield SimpleNamespace(
            client=client,
            process=process,
            store=store,
            folder=folder,
            key=key,
            token=lambda path: signed(signer, base + path),
        )
    if process.process.poll() is None:
        process.process.kill()
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


def test_a_model_that_fails_on_a_patient_does_not_say_on_whom(server):
    client, facts = server.client, {**FACTS, "diagnoses": [{"text": f"BREAKS {DX} {WORDS}"}]}
    failed = client.post("/v1/drafts", json=facts, headers={"Idempotency-Key": KEY})
    assert failed.status_code == 500
    assert_silent(failed)
    queued = client.post("/v1/drafts", json=facts, headers={"Prefer": "respond-async"})
    assert ended(client, queued.headers["location"])["failure"] == "internal_error"


def test_a_queued_draft_that_is_cancelled_goes_by_without_a_word(server):
    queued = server.client.post("/v1/drafts", json=FACTS, headers={**HEADERS, "Prefer": "respond-async"})
    answer = server.client.post(f"{queued.headers['location']}/cancel", headers=HEADERS)
    assert answer.status_code in (200, 409)
    assert_silent(answer)
    assert ended(server.client, queued.headers["location"])["state"] in ("cancelled", "ready")


def ended(client: httpx2.Client, place: str) -> dict[str, Any]:
    for _ in range(200):
        draft = client.get(place).json()
        if draft["state"] not in ("queued", "running"):
            return draft
        time.sleep(0.05)
    raise AssertionError(draft["state"])


def test_pages_hold_nothing_of_a_patient(server):
    """They are filled by scripts; what a browser sends along stands in none of them, nor in where they lead."""
    client = server.client
    draft = client.post("/v1/drafts", json=FACTS).json()["draft_id"]
    static = re.search(r"/static/\w+/page.css", client.get("/about/rules").text)
    rule = re.search(r"/about/rules/[\w-]+", client.get("/about/rules").text)
    assert static
    assert rule
    paths = ("/", "/sign-in", "/drafts", f"/drafts/{draft}", f"/drafts/{draft}/print", "/about/model", "/about/rules")
    for path in (*paths, rule[0], static[0], f"/about/rules/{KEY}", f"/static/{KEY}/{KEY}"):
        for caller in (client.headers["Authorization"], ""):
            sent = {**HEADERS, "Authorization": caller, "Cookie": f"lang={MRN}"}
            query = {"next": f"/drafts/{draft}", "q": WORDS, KEY: MRN, "lang": MRN, "failed": MRN}
            answer = client.get(path, params=query, headers=sent)
            assert answer.status_code in (200, 303, 401, 404)
            assert not any(canary in answer.text + str(dict(answer.headers)) for canary in CANARIES), path


def test_a_session_goes_by_without_a_word(server):
    base = str(server.client.base_url)
    with httpx2.Client(base_url=base, headers={"User-Agent": MRN, "Referer": f"{base}/{MRN}"}) as browser:
        assert_silent(leaving := browser.get("/session/oidc/0", params={KEY: MRN}))
        assert leaving.status_code == 303
        back = browser.get("/session/callback", params={"state": MRN, "code": WORDS, "error": KEY})
        assert back.headers["location"] == "/sign-in?failed=oidc"
        assert browser.post("/session", json={"key": server.key}).status_code == 204
        token = {"X-CSRF-Token": browser.get("/session").json()["csrf"]}
        assert browser.get("/drafts").status_code == 200
        made = browser.post("/v1/drafts", json=FACTS, headers=token)
        assert made.status_code == 200
        assert_silent(made)
        assert browser.delete("/session", headers=token).status_code == 204


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
    exports = [f"{place}/export?format={kind}" for kind in ("json", "csv", "fhir")]
    for path in (place, *exports, f"{place}/fhir", "/v1/drafts", "/v1/models", "/openapi.json"):
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
    """All of the above has gone through the server by now."""
    time.sleep(1)  # for the queue's worker
    output, metrics, spans = (
        server.process.output(),
        server.client.get("/metrics").text,
        (server.folder / "spans.txt").read_text(),
    )
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


def test_every_route_was_walked_and_let_us_in(server):
    """As the server itself counted, by the templates of its routes: a new one must be walked above."""
    for probe in ("/healthz", "/livez"):
        server.client.get(probe)
    routes = set(json.loads((server.folder / "routes.json").read_text()))
    counted = re.findall(
        r'rxdraft_requests_total{.*route="([^"]+)",status="(.)xx"}', server.client.get("/metrics").text
    )
    fails = {"/v1/broken", "/v1/broken-store"}
    assert len(routes) > 30
    assert routes - {route for route, status in counted if status in "23"} == {*fails, *UNNAMED}
    assert fails <= {route for route, status in counted if status == "5"}


def test_killed_at_work_it_leaves_no_word_behind_but_in_its_store(server):
    """Last in this file."""
    with ThreadPoolExecutor(4) as many:
        asked = [many.submit(server.client.post, "/v1/drafts", json=FACTS, headers=HEADERS) for _ in range(20)]
        next(iter(as_completed(asked)))
        server.process.stop(signal.SIGABRT)
    server.process.process.wait(30)
    left = [path for path in server.folder.rglob("*") if path.is_file() and not path.name.startswith("rx.sqlite3")]
    assert {"spans.txt", "routes.json", "jwks.json"} < {path.name for path in left}
    assert any(path.suffix == ".sqlite3" for path in left)  # the search's index
    for path in left:
        content = path.read_bytes()
        assert not [canary for canary in CANARIES if canary.encode() in content], path.name
