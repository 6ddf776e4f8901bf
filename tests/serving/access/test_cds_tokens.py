"""EHRs' tokens: each of the ways in which one must not hold, and that nothing a token names is fetched."""

from __future__ import annotations

import base64
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from fastapi.testclient import TestClient

from serving.access import jwks
from serving.store.cds import Cds

EHR = "https://ehr.example.org"
SERVICE = "rx-safety-order-sign"
AUDIENCE = f"https://rx.example.org/cds-services/{SERVICE}"


@pytest.fixture(scope="module")
def ehr(issuer):
    return issuer(EHR)


@pytest.fixture(scope="module")
def stranger(issuer):
    return issuer(EHR)  # who claims to be the EHR


@pytest.fixture(scope="module")
def client(service, ehr, issuer):
    held = {"issuer": EHR, "jwks_file": ehr.jwks_file, "jku": f"{EHR}/jwks.json", "services": [SERVICE]}
    return TestClient(service(cds_clients=[held]), base_url="https://rx.example.org")


def call(client, token: str | None, service_id: str = SERVICE) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode("latin-1")}
    return client.post(f"/cds-services/{service_id}", headers=headers)


@pytest.mark.parametrize("alg", ["ES384", "RS384"])
@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE]])
def test_a_token_as_the_specification_has_it_is_taken(client, ehr, store, alg, aud):
    answer = call(client, ehr.token({"aud": aud, "tenant": "x"}, alg=alg, jku=f"{EHR}/jwks.json"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == f"cds:{store.keyed(EHR)[:16]}"


def test_discovery_has_an_audience_of_its_own(client, ehr):
    def discover(audience: str) -> int:
        headers = {"Authorization": f"Bearer {ehr.token({'aud': audience})}"}
        return client.get("/cds-services", headers=headers).status_code

    assert discover("https://rx.example.org/cds-services") == 200
    assert discover(AUDIENCE) == 401


NOW = int(time.time())
"""When this file was read: minutes before its tests run, in a run of all of them."""
LATER = NOW + 86_400
CLAIMS: dict[str, dict[str, Any]] = {
    "no audience": {"aud": None},
    "another service": {"aud": "https://rx.example.org/cds-services/rx-draft-patient-view"},
    "another host": {"aud": f"https://evil.example.org/cds-services/{SERVICE}"},
    "a slash more": {"aud": AUDIENCE + "/"},
    "two audiences": {"aud": [AUDIENCE, "https://other.example.org"]},
    "an audience and a number": {"aud": [AUDIENCE, 1]},
    "an audience twice": {"aud": [AUDIENCE, AUDIENCE]},
    "no expiry": {"exp": None},
    "expired": {"exp": NOW - 60, "iat": NOW - 300},
    "holds for months": {"exp": NOW + 10_000_000},
    "of last year": {"iat": NOW - 31_536_000},
    "from the future": {"iat": LATER, "exp": LATER + 100},
    "not yet": {"nbf": LATER},
    "no start": {"iat": None},
    "a word as time": {"exp": "soon"},
    "endless": {"exp": float("inf")},
    "no number": {"exp": float("nan")},
    "no jti": {"jti": None},
    "an empty jti": {"jti": ""},
    "a long jti": {"jti": "x" * 201},
    "a number as jti": {"jti": 7},
    "no issuer": {"iss": None},
    "unknown issuer": {"iss": "https://evil.example.org"},
    "issuer with a slash": {"iss": EHR + "/"},
    "issuers": {"iss": [EHR]},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_with_such_claims_is_refused(client, ehr, claims):
    assert_refused(call(client, signed(ehr, {"aud": AUDIENCE, **claims})))


def signed(ehr, claims: dict[str, Any]) -> str:
    """Sign what PyJWT would not even encode."""
    try:
        return ehr.token(claims)
    except (TypeError, ValueError, OverflowError):
        held = {name: value for name, value in (claims_now() | claims).items() if value is not None}
        return jwt.PyJWS().encode(json.dumps(held).encode(), ehr.ec, "ES384", {"kid": "ec"})


HEADERS: dict[str, dict[str, Any]] = {
    "no kid": {"kid": None},
    "unknown kid": {"kid": "k9"},
    "a key of another type": {"kid": "rsa"},
    "unlisted jku": {"jku": "https://evil.example.org/jwks.json"},
    "an empty jku": {"jku": ""},
    "another algorithm of the same key": {"alg": "RS256"},
    "unknown critical header": {"crit": ["tenant"], "tenant": "x"},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_token_with_such_a_header_is_refused(client, ehr, header):
    assert_refused(call(client, ehr.token({"aud": AUDIENCE}, **header)))


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_symmetric_signature_by_the_public_key_is_refused(client, ehr, alg):
    pem = ehr.rsa.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body = coded({"alg": alg, "typ": "JWT", "kid": "rsa"}), coded(claims_now())
    mac = jwt.algorithms.HMACAlgorithm(getattr(jwt.algorithms.HMACAlgorithm, f"SHA{alg[2:]}"))
    assert_refused(call(client, f"{head}.{body}.{raw(mac.sign(f'{head}.{body}'.encode(), pem))}"))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 384, ["ES384"]])
def test_an_unsigned_token_is_refused(client, ehr, alg):
    assert_refused(call(client, f"{coded({'alg': alg, 'kid': 'ec'})}.{coded(claims_now())}."))


def test_a_stranger_with_the_ehrs_name_is_refused(client, ehr, stranger):
    assert_refused(call(client, stranger.token({"aud": AUDIENCE})))


def test_a_key_inside_the_token_is_not_believed(client, stranger):
    inside = stranger.public_keys()[0]
    assert_refused(call(client, stranger.token({"aud": AUDIENCE}, jwk=inside)))


def test_a_changed_body_is_refused(client, ehr):
    head, _, signature = ehr.token({"aud": AUDIENCE}).split(".")
    assert_refused(call(client, f"{head}.{coded(claims_now())}.{signature}"))


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c", ".", "..", "e30.e30.", "\xfc.\xfc.\xfc", "x" * 20_000])
def test_what_is_no_token_is_refused(client, token):
    assert_refused(call(client, token))


def test_a_deeply_nested_token_is_refused(client):
    deep = raw(b"[" * 10_000)
    assert_refused(call(client, f"{coded({'alg': 'ES384'})}.{deep[:12_000]}.x"))


def test_a_token_holds_once_for_all_processes(client, ehr, store):
    token = ehr.token({"aud": AUDIENCE})
    assert call(client, token).status_code == 200
    assert_refused(call(client, token))
    used_elsewhere = ehr.token({"aud": AUDIENCE, "jti": "j1"})
    assert Cds(store).use_jti(EHR, "j1", datetime.fromtimestamp(LATER, UTC))
    assert_refused(call(client, used_elsewhere))


def test_a_token_that_was_refused_is_not_used_up(client, ehr):
    jti = uuid.uuid4().hex
    assert_refused(call(client, ehr.token({"aud": "elsewhere", "jti": jti})))
    assert call(client, ehr.token({"aud": AUDIENCE, "jti": jti})).status_code == 200


def test_an_ehr_may_be_held_to_some_services(client, ehr):
    other = "rx-draft-patient-view"
    answer = call(client, ehr.token({"aud": f"https://rx.example.org/cds-services/{other}"}), other)
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["code"] == "forbidden"


def test_no_token_makes_us_fetch_anything(client, ehr, monkeypatch):
    monkeypatch.setattr(jwks, "fetch_json", lambda url: pytest.fail("fetched"))
    for header in ({"jku": "https://evil.example.org/k"}, {"x5u": "https://evil.example.org/x"}, {"kid": "http://x/"}):
        call(client, ehr.token({"aud": AUDIENCE}, **header))


def test_an_api_key_is_no_ehr_and_an_ehr_is_no_person(client, ehr, new_key):
    assert_refused(call(client, new_key()))
    answer = client.get("/search", headers={"Authorization": f"Bearer {ehr.token({'aud': AUDIENCE})}"})
    assert answer.status_code == 401


def test_without_clients_everybody_is_refused_but_this_machine_under_dev(service, ehr):
    token = ehr.token({"aud": AUDIENCE})
    assert_refused(call(TestClient(service(), base_url="https://rx.example.org"), token))
    dev = service(dev=True, public_url="http://127.0.0.1:8000")
    here = TestClient(dev, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5000))
    assert call(here, None).json() == {"id": "cds:dev"}
    elsewhere = TestClient(dev, base_url="http://127.0.0.1:8000", client=("10.0.0.9", 5000))
    assert_refused(call(elsewhere, None))


def assert_refused(answer: Any) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"] == "Bearer"
    content = answer.json()
    assert content["resourceType"] == "OperationOutcome"
    [issue] = content["issue"]
    assert issue["code"] == "login"
    assert issue["details"]["text"] == "Sign in, or send a key that works"  # whatever the reason


def claims_now() -> dict[str, Any]:
    now = int(time.time())
    return {"iss": EHR, "aud": AUDIENCE, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}


def coded(content: dict[str, Any]) -> str:
    return raw(json.dumps(content).encode())


def raw(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
