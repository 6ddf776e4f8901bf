"""Bodies, queries and names made to break: every route answers with an error of its own, soon, and nothing is lost."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from serving.store.verification import verify
from tests.serving.security.conftest import BODY

GOOD = json.dumps(BODY).encode()
DIGITS = b"9" * 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"diagnoses": "\xff\xfe"}',
    "null": b"null",
    "deep lists": b"[" * 120_000,
    "deep objects": b'{"a":' * 40_000,
    "deep and whole": b'{"diagnoses":' + b"[" * 900 + b"]" * 900 + b"}",
    "too many digits": b'{"diagnoses":[{"text":"a"}],"age":' + DIGITS + b"}",
    "infinite": b'{"diagnoses":[{"text":"a"}],"height_cm":1e400,"if_version":1e400,"age":1e400,"limit":1e400}',
    "not a number": b'{"diagnoses":[{"text":"a"}],"height_cm":NaN,"if_version":-Infinity,"age":NaN,"limit":NaN}',
    "lone surrogates": b'{"diagnoses":[{"text":"\\ud800"}],"drugs":["\\udfff"],"q":"\\ud800","key":"\\ud800"}',
    "a surrogate for a key": b'{"\\ud800": 1}',
    "many keys": json.dumps({f"k{place}": place for place in range(15_000)}).encode(),
    "over the limit": b"[" + b"1," * 1_100_000 + b"1]",
    "gzip": gzip.compress(GOOD),
    "deflate": zlib.compress(GOOD),
    "a bomb": gzip.compress(b"0" * 50_000_000),
}
CODED = {"gzip": "gzip", "deflate": "deflate", "a bomb": "gzip"}


@pytest.fixture(scope="module")
def posts(people) -> list[str]:
    paths = people("alice").client.get("/openapi.json").json()["paths"]
    found = [re.sub(r"\{[^}]*\}", "x", path) for path, methods in paths.items() if "post" in methods]
    assert len(found) >= 9
    return found


@pytest.mark.parametrize("name", BODIES)
def test_no_body_breaks_any_route(people, posts, name):
    headers = {"Content-Type": "application/json", "Content-Encoding": CODED.get(name, "identity")}
    for path in posts:
        answer = people("alice")("POST", path, content=BODIES[name], headers=headers)
        empty = name == "nothing" and path.endswith("/cancel")
        assert answer.status_code in ((404,) if empty else (400, 401, 403, 404, 413, 415, 422)), (path, answer.text)
        assert answer.json().get("code", "login") not in ("internal_error", "store_unavailable")


def test_an_answer_is_not_larger_than_what_was_sent(people):
    many = json.dumps({f"k{place}": place for place in range(15_000)}).encode()
    answer = people("alice")("POST", "/v1/drafts", content=many, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


SQL = [
    "' OR '1'='1",
    "'; DROP TABLE drafts; --",
    '" OR 1=1 --',
    "\\'; SELECT 1",
    "x' UNION SELECT secret FROM api_keys --",
]
FTS = ['"', "a AND", "NEAR(", "title:x", "-x", "*", "^a", "{a b}: c", 'a" OR "b', "a:b", "a\0b", "%_", "col : (a OR b)"]


@pytest.mark.parametrize("text", [*SQL, *FTS])
def test_no_text_is_read_as_a_query(people, text):
    alice = people("alice")
    facts = {"diagnoses": [{"text": text}], "allergies": [{"substance": text}], "current_drugs": [text]}
    made = alice("POST", "/v1/drafts", json={**BODY, **facts})
    assert made.status_code == 200, made.text
    place = f"/v1/drafts/{made.json()['draft_id']}"
    review = {"item_id": "i1", "decision": "edit", "edited_drug": text, "reason_text": f"x {text}", "if_version": 1}
    assert alice("POST", f"{place}/reviews", json=review).json()["drugs"][0]["review"]["edited_drug"] == text
    for path in ("/v1/icd", "/v1/drugs"):
        assert alice("POST", path, json={"q": text}).status_code == 200
        assert alice("GET", path, params={"q": text}).status_code == 200
    if text.isprintable():
        assert alice("GET", f"/v1/drafts/{text.replace('/', '')[:64]}").status_code == 404
    assert alice("GET", "/v1/drafts", params={"before": text}).json() == {"drafts": []}
    assert alice("POST", f"{place}/cancel", headers={"Idempotency-Key": "x"}).status_code in (200, 409)


def test_afterwards_the_store_is_whole(people):
    """After all of the above."""
    assert verify(people("alice").client.app.state.service.store).problems == ()


SLOW = ["a" * 190, " " * 189 + "a", "1 2 " * 47, "a in " * 38, " a" * 95, "(" * 190, "1.5% mg/ml " * 17, "İ" * 150]


@pytest.mark.parametrize("text", SLOW)
def test_no_text_makes_screening_slow(people, text):
    names = [f"{text}{place}" for place in range(200 if text.isascii() else 100)]
    body = {"drugs": names, "current_drugs": names, "allergies": [{"substance": name} for name in names[:100]]}
    content = json.dumps(body, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json"}
    assert seconds(lambda: people("alice")("POST", "/v1/screen", content=content, headers=headers)) < 3


ORDER = {"resourceType": "MedicationRequest", "status": "active", "intent": "order"}


@pytest.mark.parametrize("selected", [None, 1000])
def test_no_number_of_orders_makes_a_hook_slow(people, selected):
    from datetime import UTC, datetime

    from serving.cds.orders import MOST_READ, read_orders
    from serving.cds.prefetch import read_facts

    orders = [{**ORDER, "id": f"m{n}", "medicationCodeableConcept": {"text": f"drug {n}"}} for n in range(9000)]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": order} for order in orders]}
    facts = read_facts({}, "p", datetime.now(UTC), lambda name: True)
    selections = selected and [f"MedicationRequest/m{n}" for n in range(selected)]
    looked_up: list[str] = []
    assert seconds(lambda: read_orders(bundle, selections, facts, lambda name: not looked_up.append(name))) < 1
    assert len(looked_up) <= MOST_READ
    read = read_orders(bundle, selections, facts, lambda name: True)
    assert read.total == 9000 if selected is None else read.total >= MOST_READ  # what was not read is told


def test_no_number_of_codings_makes_a_hook_slow():
    from serving.fhir.clinical import drug_name

    asked: list[str] = []
    codings = [{"system": "x", "code": str(n), "display": f"drug {n}"} for n in range(20_000)]
    order = {**ORDER, "medicationCodeableConcept": {"coding": codings}}
    drug_name(order, {}, lambda name: bool(asked.append(name)))
    assert len(asked) < 100


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor's time, which others on the machine do not lengthen."""
    began = time.process_time()
    work()
    return time.process_time() - began
