"""Sign-in by an identity provider, against a small one that speaks the protocol over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

HERE = "https://rx.example.org"


class IdentityProvider:
    """Authorization and token endpoint: codes are for one use, PKCE and redirect_uri are checked."""

    def __init__(self, issuer: Any) -> None:
        self.issuer, self.codes, self.claims = issuer, {}, {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                answer = provider.exchange({name: values[0] for name, values in form.items()})
                self.send_response(200 if answer else 400)
                self.end_headers()
                self.wfile.write(json.dumps(answer or {"error": "invalid_grant"}).encode())

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def settings(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer.name,
            "jwks_file": self.issuer.jwks_file,
            "audience": ["rx-page"],
            "client_id": "rx-page",
            "authorize_url": f"{self.url}/authorize",
            "token_url": f"{self.url}/token",
            "algorithms": ["RS256"],
            "roles": {"doctors": "clinician"},
        }

    def authorize(self, location: str) -> dict[str, str]:
        """Let the person in whose browser was sent to `location`; return what it is sent back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.issuer.name}

    def exchange(self, form: dict[str, str]) -> dict[str, Any] | None:
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        claims = {"aud": "rx-page", "nonce": asked["nonce"], "roles": ["doctors"], "name": "Jane", **self.claims}
        return {"id_token": self.issuer.token(claims, alg="RS256"), "token_type": "Bearer"}


@pytest.fixture
def idp(issuer) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(issuer("https://login.example.org"))
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def browser(service, idp) -> TestClient:
    return TestClient(service(oidc=[idp.settings()], sign_ins_per_minute=1000), base_url=HERE, follow_redirects=False)


def leave(browser: TestClient, idp: IdentityProvider) -> dict[str, str]:
    """Go to the provider and sign in there; return what the browser comes back with."""
    answer = browser.get("/session/oidc/0")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{idp.url}/authorize?")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-rxdraft-oidc=")
    assert "HttpOnly" in cookie
    assert "Secure" in cookie
    assert "samesite=lax" in cookie.lower()
    return idp.authorize(answer.headers["location"])


def assert_sent_away(browser: TestClient, answer: Any, why: str = "oidc") -> None:
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/sign-in?failed={why}"
    assert browser.get("/session").status_code == 401


def test_who_signs_in_there_is_signed_in_here(browser, idp):
    answer = browser.get("/session/callback", params=leave(browser, idp))
    assert answer.status_code == 200
    assert 'content="0;url=/"' in answer.text
    assert browser.get("/session").json()["name"] == "Jane"
    assert browser.get("/draft").json()["id"].startswith("oidc:")
    assert "__Host-rxdraft-oidc" not in browser.cookies


def test_it_is_the_same_principal_as_by_token(browser, idp):
    browser.get("/session/callback", params=leave(browser, idp))
    token = idp.issuer.token({"aud": "rx-page", "roles": "doctors"}, alg="RS256")
    by_token = TestClient(browser.app, base_url=HERE).get("/draft", headers={"Authorization": f"Bearer {token}"})
    assert by_token.json() == browser.get("/draft").json()


SPOILT: dict[str, Any] = {
    "another state": lambda back: {**back, "state": "x"},
    "no state": lambda back: {**back, "state": ""},
    "no code": lambda back: {**back, "code": ""},
    "a made-up code": lambda back: {**back, "code": "made-up"},
    "another issuer": lambda back: {**back, "iss": "https://evil.example.org"},
    "a refusal": lambda back: {"error": "access_denied", "state": back["state"]},
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_who_comes_back_with_something_else_is_not_signed_in(browser, idp, spoil):
    assert_sent_away(browser, browser.get("/session/callback", params=spoil(leave(browser, idp))))


def test_a_browser_that_never_left_is_not_signed_in(browser, idp):
    back = leave(browser, idp)
    browser.cookies.clear()
    assert_sent_away(browser, browser.get("/session/callback", params=back))


@pytest.mark.parametrize("cookie", ["", "x", "x.y", "e30=.0"])
def test_a_cookie_that_is_not_ours_is_worth_nothing(browser, idp, cookie):
    back = leave(browser, idp)
    browser.cookies.clear()
    browser.cookies.set("__Host-rxdraft-oidc", cookie)
    assert_sent_away(browser, browser.get("/session/callback", params=back))


def test_a_code_stolen_from_another_browser_is_worth_nothing(browser, idp):
    thief = TestClient(browser.app, base_url=HERE, follow_redirects=False)
    mine, stolen = leave(thief, idp), leave(browser, idp)
    assert_sent_away(thief, thief.get("/session/callback", params={**stolen, "state": mine["state"]}))


@pytest.mark.parametrize(
    ("claims", "why"),
    [({"nonce": "another"}, "oidc"), ({"nonce": None}, "oidc"), ({"aud": "another"}, "oidc"), ({"roles": []}, "role")],
)
def test_an_id_token_of_another_sign_in_or_without_a_role_is_refused(browser, idp, claims, why):
    idp.claims = claims
    assert_sent_away(browser, browser.get("/session/callback", params=leave(browser, idp)), why)


def test_a_provider_that_is_down_is_no_crash(browser, idp):
    back = leave(browser, idp)
    idp.server.shutdown()
    idp.server.server_close()
    assert_sent_away(browser, browser.get("/session/callback", params=back))


@pytest.mark.parametrize("place", [1, -1, 10**30])
def test_only_configured_providers_are_left_for(browser, place):
    assert browser.get(f"/session/oidc/{place}").status_code == 404
