"""What another site, or who shares the browser, can do with somebody's session."""

from __future__ import annotations

from typing import Any

import pytest

HERE = "http://127.0.0.1:8000"


@pytest.fixture
def key(people) -> str:
    return people("alice").headers["Authorization"].partition(" ")[2]


@pytest.fixture
def browser(people) -> Any:
    client = people("alice").client
    client.cookies.clear()
    yield client
    client.cookies.clear()


def sign_in(browser: Any, key: str, **headers: str) -> Any:
    return browser.post("/session", json={"key": key}, headers=headers)


def test_a_session_that_was_planted_before_signing_in_is_not_taken_over(browser, key):
    browser.cookies.set("rxdraft", "planted", domain="127.0.0.1")
    assert sign_in(browser, key).status_code == 204
    tokens = [cookie.value for cookie in browser.cookies.jar if cookie.value != "planted"]
    assert len(tokens) == 1
    assert browser.get("/v1/models", headers={"Cookie": "rxdraft=planted"}).status_code == 401


def test_signing_in_again_ends_the_session_before(browser, key):
    sign_in(browser, key)
    before = browser.cookies["rxdraft"]
    sign_in(browser, key)
    after = browser.cookies["rxdraft"]
    browser.cookies.clear()
    answers = [browser.get("/session", headers={"Cookie": f"rxdraft={token}"}).status_code for token in (before, after)]
    assert answers == [401, 200]


FOREIGN = [
    {"Origin": "https://evil.example.org"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_another_site_neither_signs_in_nor_changes_nor_signs_out(browser, key, origin):
    assert sign_in(browser, key, **origin).status_code == 403
    sign_in(browser, key)
    token = {"X-CSRF-Token": browser.get("/session").json()["csrf"]}
    facts = {"diagnoses": [{"text": "x"}]}
    assert browser.post("/v1/drafts", json=facts, headers={**token, **origin}).status_code == 403
    assert browser.delete("/session", headers={**token, **origin}).status_code == 403
    assert browser.delete("/session").status_code == 403
    assert browser.get("/session").status_code == 200


def test_the_csrf_token_of_another_session_changes_nothing(browser, key):
    sign_in(browser, key)
    other = browser.get("/session").json()["csrf"]
    sign_in(browser, key)
    assert browser.post("/v1/screen", json={"drugs": []}, headers={"X-CSRF-Token": other}).status_code == 403


def test_no_answer_about_a_patient_is_kept_framed_or_read_by_another_site(browser, key):
    sign_in(browser, key)
    token = {"X-CSRF-Token": browser.get("/session").json()["csrf"]}
    draft = browser.post("/v1/drafts", json={"diagnoses": [{"text": "x"}]}, headers=token).json()["draft_id"]
    for path in ("", "/export?format=csv", "/fhir"):
        check(browser.get(f"/v1/drafts/{draft}{path}"))
    for page in ("/", "/drafts", f"/drafts/{draft}", f"/drafts/{draft}/print", "/v1/drafts", "/session"):
        check(browser.get(page))


def check(answer: Any) -> None:
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


def test_an_unknown_key_and_a_wrong_secret_look_the_same(browser, key):
    name, key_id, secret = key.split("_")
    answers = [
        browser.get("/v1/models", headers={"Authorization": f"Bearer {tried}"})
        for tried in (f"{name}_{key_id}_{'0' * 64}", f"{name}_{'0' * 12}_{secret}", f"{name}_{key_id}_{secret[:-1]}")
    ]
    assert len({str(answer.json() | {"request_id": 0}) for answer in answers}) == 1
    assert {answer.status_code for answer in answers} == {401}
