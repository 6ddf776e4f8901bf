"""Signing in from a page: the cookie, its end, and calls that other sites' pages make with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from serving.access.principal import Role, Scope
from serving.store.keys import Keys

HERE = "https://rx.example.org"


@pytest.fixture
def browser(client) -> TestClient:
    return TestClient(client.app, base_url=HERE, headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"})


def sign_in(browser: TestClient, key: str) -> str:
    """Sign in and return the CSRF token."""
    answer = browser.post("/session", json={"key": key})
    assert answer.status_code == 204, answer.text
    return browser.get("/session").json()["csrf"]


def test_a_cookie_is_for_this_host_over_https_and_out_of_scripts_reach(browser, new_key):
    answer = browser.post("/session", json={"key": new_key()})
    [(name, cookie)] = SimpleCookie(answer.headers["set-cookie"]).items()
    assert name == "__Host-rxdraft"
    assert cookie["secure"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert cookie["path"] == "/"
    assert not cookie["domain"]
    assert int(cookie["max-age"]) == 12 * 3600


def test_a_session_may_do_what_its_key_may(browser, new_key):
    csrf = sign_in(browser, new_key(Role.CLINICIAN, only=[Scope.SEARCH]))
    assert browser.get("/session").json() == {"name": "a ward", "roles": ["clinician"], "csrf": csrf}
    assert browser.get("/search").status_code == 200
    assert browser.get("/draft").status_code == 403


def test_a_session_is_the_same_principal_as_its_key(browser, new_key):
    key = new_key()
    sign_in(browser, key)
    assert browser.get("/search").json()["id"] == browser.get("/page").json()["id"] == f"key:{key.split('_')[1]}"


def test_nobody_signed_in_is_none_for_a_page_and_401_for_the_api(browser):
    assert browser.get("/page").json() == {"id": None}
    assert browser.get("/session").status_code == 401
    browser.cookies.set("__Host-rxdraft", "made-up")
    assert browser.get("/page").json() == {"id": None}
    assert browser.get("/search").status_code == 401


def test_after_signing_out_the_cookie_is_worth_nothing(browser, new_key):
    csrf = sign_in(browser, new_key())
    [cookie] = browser.cookies.jar
    answer = browser.delete("/session", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    assert answer.headers["clear-site-data"] == '"storage"'
    assert not list(browser.cookies.jar)
    browser.cookies.set(cookie.name, cookie.value)
    assert browser.get("/search").status_code == 401


def test_a_session_ends_with_its_key(browser, new_key, store):
    key = new_key()
    sign_in(browser, key)
    Keys(store).revoke(key.split("_")[1])
    assert browser.get("/search").status_code == 401


def test_a_session_ends_in_time(browser, new_key, store):
    sign_in(browser, new_key())
    with store.transaction() as con:
        con.execute(text("UPDATE sessions SET expires_at = :past"), {"past": datetime.now(UTC) - timedelta(minutes=1)})
    assert browser.get("/search").status_code == 401


def test_the_store_knows_no_session_token(browser, new_key, store):
    sign_in(browser, new_key())
    [cookie] = browser.cookies.jar
    with store.reading() as con:
        assert cookie.value not in str(con.execute(text("SELECT * FROM sessions")).all())


@pytest.mark.parametrize("body", [{}, {"key": ""}, {"key": 1}, {"key": "x" * 201}, {"key": "x", "more": 1}, [], "x"])
def test_what_is_no_key_is_told_by_place_only(browser, body):
    answer = browser.post("/session", json=body)
    assert answer.status_code == 422
    assert "x" * 201 not in answer.text


OTHER_SITES: dict[str, dict[str, str]] = {
    "another origin": {"Origin": "https://evil.example.org"},
    "no origin at all": {"Origin": "null"},
    "a look-alike": {"Origin": "https://rx.example.org.evil.org"},
    "the same host over http": {"Origin": "http://rx.example.org"},
    "another port": {"Origin": "https://rx.example.org:8443"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a sister host": {"Sec-Fetch-Site": "same-site"},
}
TOKENS: dict[str, Any] = {
    "none": lambda csrf: {},
    "empty": lambda csrf: {"X-CSRF-Token": ""},
    "wrong": lambda csrf: {"X-CSRF-Token": "0" * 64},
    "of dev": lambda csrf: {"X-CSRF-Token": "dev"},
    "half": lambda csrf: {"X-CSRF-Token": csrf[:32]},
}


@pytest.mark.parametrize("headers", OTHER_SITES.values(), ids=OTHER_SITES.keys())
@pytest.mark.parametrize("call", [("POST", "/draft"), ("DELETE", "/session")])
def test_a_call_from_another_sites_page_changes_nothing(browser, new_key, headers, call):
    csrf = sign_in(browser, new_key())
    answer = browser.request(*call, headers={"X-CSRF-Token": csrf, **headers})
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf")
    assert browser.post("/draft", headers={"X-CSRF-Token": csrf}).status_code == 200


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_a_call_without_the_sessions_own_token_changes_nothing(browser, new_key, token):
    csrf = sign_in(browser, new_key())
    answer = browser.post("/draft", headers=token(csrf))
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf")


def test_the_token_of_another_session_does_not_fit(client, new_key):
    key = new_key()
    first, second = (TestClient(client.app, base_url=HERE) for _ in range(2))
    assert first.post("/draft", headers={"X-CSRF-Token": sign_in(first, key)}).status_code == 200
    assert first.post("/draft", headers={"X-CSRF-Token": sign_in(second, key)}).status_code == 403


def test_reading_needs_no_token_and_a_key_in_a_header_needs_none_either(browser, new_key):
    sign_in(browser, new_key())
    assert browser.get("/draft").status_code == 200
    foreign = {"Origin": "https://ehr.example.org", "Authorization": f"Bearer {new_key()}"}
    assert TestClient(browser.app, base_url=HERE).post("/draft", headers=foreign).status_code == 200


@pytest.mark.parametrize("headers", OTHER_SITES.values(), ids=OTHER_SITES.keys())
def test_nobody_is_signed_in_by_another_sites_page(browser, new_key, headers):
    answer = browser.post("/session", json={"key": new_key()}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf")
    assert "set-cookie" not in answer.headers


def test_a_form_of_another_site_cannot_sign_in(browser, new_key):
    answer = browser.post("/session", content=f'{{"key": "{new_key()}"}}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


# --- dev ------------------------------------------------------------------------------------------------

LOCAL = "http://127.0.0.1:8000"


def dev_client(service, peer: str = "127.0.0.1", **headers: str) -> TestClient:
    return TestClient(service(dev=True, public_url=LOCAL), base_url=LOCAL, client=(peer, 5000), headers=headers)


def test_dev_answers_this_machine_without_a_key(service):
    client = dev_client(service)
    assert client.get("/session").json() == {"name": "dev", "roles": ["clinician"], "csrf": "dev"}
    assert client.post("/draft").status_code == 200
    assert client.post("/draft", headers={"Origin": LOCAL}).status_code == 200
    assert client.get("/draft", headers={"Host": "localhost:8000"}).status_code == 200
    assert client.get("/audit").status_code == 403


def test_dev_minds_no_cookie_of_another_service_on_this_machine(service):
    client = dev_client(service)
    client.cookies.set("rxdraft", "of another port")
    assert client.get("/session").json()["name"] == "dev"


@pytest.mark.parametrize("peer", ["10.0.0.9", "192.168.1.7", "2001:db8::1", "testclient", "127.0.0.1.evil.org"])
def test_dev_answers_no_other_machine(service, peer):
    assert dev_client(service, peer).get("/draft").status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"])
def test_dev_answers_nobody_whom_a_proxy_brings(service, name):
    assert dev_client(service, **{name: "127.0.0.1"}).get("/draft").status_code == 401


@pytest.mark.parametrize("host", ["evil.example.org", "evil.example.org:8000", "127.0.0.1.evil.org", "a@127.0.0.1", ""])
def test_dev_answers_no_name_that_somebody_pointed_here(service, host):
    answer = dev_client(service).get("/draft", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (400, "foreign_host")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example.org"}, {"Origin": "http://localhost:3000"}, *[*OTHER_SITES.values()][-2:]],
)
def test_dev_takes_no_call_of_another_sites_page(service, headers):
    assert dev_client(service).post("/draft", headers=headers).status_code == 403


def test_a_cookie_over_http_on_loopback_is_named_without_the_prefix(service, new_key):
    client = TestClient(service(public_url=LOCAL), base_url=LOCAL)
    assert client.post("/session", json={"key": new_key()}).status_code == 204
    assert [cookie.name for cookie in client.cookies.jar] == ["rxdraft"]
    assert client.get("/draft").status_code == 200
