"""The real process: who gets in, over which worker, and what a listing of processes and its output show."""

from __future__ import annotations

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.serving.security.conftest import BODY, KID, SECRET, Target

PERSON, EHR_CALL = "/v1/models", "/cds-services"


def by_public_key(target: Target, path: str, alg: str = "HS256") -> str:
    """Sign with the public key as if it were a shared secret; PyJWT itself would not."""
    public = target.signer.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, claims = ({"alg": alg, "typ": "JWT", "kid": KID}, target.claims(path))
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, claims))
    tag = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return (signed + b"." + base64.urlsafe_b64encode(tag.sign(signed, pem)).rstrip(b"=")).decode()


FOREIGN = ec.generate_private_key(ec.SECP384R1())
FORGED: dict[str, Any] = {
    "none": lambda target, path: None,
    "empty": lambda target, path: "x.y.z",
    "expired": lambda target, path: target.token(path, iat=int(time.time()) - 400, exp=int(time.time()) - 100),
    "of tomorrow": lambda target, path: target.token(path, iat=int(time.time()) + 9999, exp=int(time.time()) + 10_099),
    "for another audience": lambda target, path: target.token(path, aud="https://other.example.org"),
    "of another issuer": lambda target, path: target.token(path, iss="https://evil.example.org"),
    "alg none": lambda target, path: jwt.encode(target.claims(path), None, "none", {"kid": KID}),
    "signed with the public key": by_public_key,
    "of a foreign key": lambda target, path: target.token(path, key=FOREIGN),
    "an unlisted jku": lambda target, path: target.token(path, key=FOREIGN, head={"jku": target.trap.url, "kid": "x"}),
    "a key of its own": lambda target, path: target.token(
        path, key=FOREIGN, head={"jwk": jwt.algorithms.ECAlgorithm.to_jwk(FOREIGN.public_key(), as_dict=True)}
    ),
    "an x5u": lambda target, path: target.token(path, key=FOREIGN, head={"x5u": target.trap.url}),
}


@pytest.mark.parametrize("path", [PERSON, EHR_CALL])
def test_an_honest_token_is_let_in(target: Target, path: str) -> None:
    assert target.status(path, target.token(path)) == 200


@pytest.mark.parametrize("path", [PERSON, EHR_CALL])
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused_and_makes_nobody_fetch_anything(target: Target, path: str, forged: Any) -> None:
    assert target.status(path, forged(target, path)) == 401
    assert target.trap.came == []


def test_an_honest_signature_with_a_jku_of_the_callers_own_is_refused(target: Target) -> None:
    assert target.status(EHR_CALL, target.token(EHR_CALL, head={"jku": target.trap.url})) == 401
    assert target.trap.came == []


def test_a_replayed_token_is_refused_by_every_worker(target: Target) -> None:
    token = target.token(EHR_CALL)
    with ThreadPoolExecutor(8) as many:
        statuses = list(many.map(lambda _: target.status(EHR_CALL, token), range(24)))
    assert sorted(statuses) == [200] + [401] * 23


def test_a_draft_of_somebody_else_can_be_neither_read_nor_changed_nor_taken_out(target: Target) -> None:
    made = httpx2.post(f"{target.url}/v1/drafts", json=BODY, headers=target.as_("alice"), timeout=30).json()
    place, version = f"{target.url}/v1/drafts/{made['draft_id']}", made["version"]
    accept = {"item_id": "i1", "decision": "accept", "reason_code": "risk-benefit-ratio", "if_version": version}
    for method, path, body in (
        *(("GET", path, None) for path in ("", "/export?format=csv", "/export?format=json", "/fhir")),
        *(("POST", "/cancel", None), ("POST", "/reviews", accept), ("POST", "/finalize", {"if_version": version})),
    ):
        answer = httpx2.request(method, place + path, json=body, headers=target.as_("bob"), timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert httpx2.get(place, headers=target.as_("alice"), timeout=30).json() == made


@pytest.mark.parametrize("host", ["evil.example.org", "127.0.0.1.evil.example.org", "127.0.0.1@evil.example.org"])
def test_a_name_that_somebody_points_here_is_not_answered(target: Target, host: str) -> None:
    line = f"GET /sign-in HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert target.server.talk(line.encode()).startswith(b"HTTP/1.1 400")


def test_no_listing_of_processes_shows_a_secret(target: Target) -> None:
    parent = target.server.process.pid
    family = [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
    assert len(family) > 2
    for pid in family:
        shown = Path(f"/proc/{pid}/cmdline").read_text()
        assert SECRET not in shown
        assert not re.search(r"rxd_[0-9a-f]{12}_", shown)


def test_neither_keys_nor_tokens_stand_in_the_output(target: Target) -> None:
    token = target.token(PERSON)
    assert target.status(PERSON, token) == 200
    assert target.status(PERSON, f"{target.keys['alice'][:-1]}g") == 401
    output = target.server.output()
    assert '"event": "answered"' in output
    assert not any(secret in output for secret in (SECRET, token, *target.keys.values()))
    assert "Traceback" not in output
