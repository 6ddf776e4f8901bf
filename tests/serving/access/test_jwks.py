"""An issuer's keys: read when a token names a new one, at most once a minute, and from nowhere else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from serving.access.issuers import CdsClient
from serving.access.jwks import FORGET_AFTER_SECONDS, KeySet
from serving.access.refused import RefusedError
from serving.problems import ProblemError


@pytest.fixture
def ehr(issuer):
    return issuer("https://ehr.example.org")


@pytest.fixture
def web(ehr) -> Iterator[SimpleNamespace]:
    """A server of key sets: `answer` is what /jwks gives, `asked` which paths were asked for."""
    state = SimpleNamespace(answer=(200, json.dumps({"keys": ehr.public_keys()})), asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            status, body = state.answer
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/jwks"
    yield state
    server.shutdown()
    server.server_close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def by_url(web) -> tuple[KeySet, Clock]:
    clock = Clock()
    return KeySet(CdsClient(issuer="https://ehr.example.org", jwks_url=web.url), clock), clock


def test_a_known_key_is_fetched_once(web):
    keys, _ = by_url(web)
    for _ in range(3):
        keys.find("ec", "ES384")
        keys.find("rsa", "RS384")
    assert web.asked == ["/jwks"]


def test_an_unknown_kid_makes_us_ask_once_a_minute(web, ehr):
    keys, clock = by_url(web)
    for _ in range(50):
        with pytest.raises(RefusedError, match="unknown_kid"):
            keys.find("new", "ES384")
    assert len(web.asked) == 1
    web.answer = (200, json.dumps({"keys": [{**ehr.public_keys()[0], "kid": "new"}]}))
    clock.now += 61
    keys.find("new", "ES384")
    assert len(web.asked) == 2


def test_a_withdrawn_key_is_forgotten_within_the_hour(web):
    keys, clock = by_url(web)
    keys.find("ec", "ES384")
    web.answer = (200, json.dumps({"keys": []}))
    clock.now += FORGET_AFTER_SECONDS + 1
    with pytest.raises(RefusedError, match="unknown_kid"):
        keys.find("ec", "ES384")


def test_while_the_issuer_is_down_known_keys_hold(web):
    keys, clock = by_url(web)
    keys.find("ec", "ES384")
    web.answer = (500, "down")
    clock.now += FORGET_AFTER_SECONDS + 1
    keys.find("ec", "ES384")


@pytest.mark.parametrize(
    "answer", [(500, "{}"), (302, ""), (200, "no JSON"), (200, "[]"), (200, '{"keys": 1}'), (200, "[" * 100_000)]
)
def test_an_issuer_that_was_never_reached_is_told_apart_from_a_wrong_token(web, answer):
    web.answer = answer
    keys, _ = by_url(web)
    with pytest.raises(ProblemError, match="identity_unavailable"):
        keys.find("ec", "ES384")
    assert web.asked == ["/jwks"]  # no redirect is followed


def test_keys_that_do_not_fit_are_refused(tmp_path, ehr):
    ec, rsa_key = ehr.public_keys()
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505
    odd = [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(weak, as_dict=True), "kid": "weak"},
        {**rsa_key, "kid": "encrypts", "use": "enc"},
        {**rsa_key, "kid": "another", "alg": "RS256"},
        {**ec, "kid": "broken", "x": "AA"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": "EC", "kid": "empty"},
        {**ec, "kid": "twice"},
        {**ec, "kid": "twice"},
        "no key",
    ]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": odd}))
    keys = KeySet(CdsClient(issuer="x", jwks_file=file))
    for kid, algorithm in [
        *(("weak", "RS384"), ("encrypts", "RS384"), ("another", "RS384"), ("broken", "ES384"), ("shared", "ES384")),
        *(("empty", "ES384"), ("twice", "ES384"), ("shared", "RS384")),
    ]:
        with pytest.raises(RefusedError):
            keys.find(kid, algorithm)


def test_a_token_without_a_kid_means_the_only_key_that_fits(tmp_path, ehr):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": ehr.public_keys()}))
    assert KeySet(CdsClient(issuer="x", jwks_file=file)).find(None, "ES384") is not None
    file.write_text(json.dumps({"keys": [*ehr.public_keys(), *ehr.public_keys()]}))
    with pytest.raises(RefusedError, match="unknown_kid"):
        KeySet(CdsClient(issuer="x", jwks_file=file)).find(None, "ES384")
