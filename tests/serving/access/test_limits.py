"""How often somebody may ask, and that one caller's haste costs nobody else anything."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serving.access.limits import MINUTE, Window
from serving.access.principal import Role

HERE = "https://rx.example.org"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def limited(service, **limits: int) -> TestClient:
    return TestClient(service(**limits), base_url=HERE)


def assert_limited(answer) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= MINUTE


def test_one_key_too_many_calls_and_the_other_goes_on(service, new_key):
    client, hasty, patient = limited(service, calls_per_minute=3), bearer(new_key()), bearer(new_key())
    assert [client.get("/search", headers=hasty).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert_limited(client.get("/search", headers=hasty))
    assert client.get("/search", headers=patient).status_code == 200


def test_drafts_are_counted_for_all_processes_together(service, new_key):
    first, second, key = limited(service, drafts_per_minute=3), limited(service, drafts_per_minute=3), new_key()
    asked = [client.post("/counted", headers=bearer(key)).status_code for client in (first, second, first, second)]
    assert asked == [200, 200, 200, 429]
    assert_limited(first.post("/counted", headers=bearer(key)))
    assert first.post("/counted", headers=bearer(new_key())).status_code == 200


def test_guessing_keys_is_slowed_and_a_right_key_still_signs_in(service, new_key):
    client, wrong = limited(service, sign_ins_per_minute=3), "rxd_" + "0" * 12 + "_" + "0" * 64
    assert [client.post("/session", json={"key": wrong}).status_code for _ in range(4)] == [401, 401, 401, 429]
    assert_limited(client.post("/session", json={"key": wrong}))
    assert client.post("/session", json={"key": new_key()}).status_code == 204


def test_wrong_tokens_are_slowed_and_a_right_one_is_not(service, new_key):
    client = limited(service, calls_per_minute=30)
    assert [client.get("/search", headers=bearer("x")).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert client.get("/search", headers=bearer(new_key())).status_code == 200


def test_pages_that_ask_on_after_their_session_stay_unauthenticated(service):
    client = limited(service, calls_per_minute=10)
    assert {client.get("/search").status_code for _ in range(20)} == {401}


def test_who_may_not_is_told_so_before_drafts_are_counted(service, new_key):
    client, admin = limited(service, drafts_per_minute=1), bearer(new_key(Role.ADMIN))
    assert [client.post("/counted", headers=admin).status_code for _ in range(3)] == [403] * 3


@given(steps=st.lists(st.floats(0, 90), max_size=60), most=st.integers(1, 5))
def test_no_window_lets_more_through_in_a_minute_than_twice_the_limit(steps, most):
    clock = Clock()
    window, passed = Window(most, clock), []
    for step in steps:
        clock.now += step
        wait = window.hit("x")
        if wait is None:
            passed.append(clock.now)
        assert wait is None or 0 < wait <= MINUTE
    for start in passed:
        assert sum(start <= at < start + MINUTE for at in passed) <= 2 * most


def test_after_the_wait_one_may_ask_again():
    clock = Clock()
    window = Window(1, clock)
    assert window.hit("x") is None
    wait = window.hit("x")
    assert wait == pytest.approx(MINUTE)
    clock.now += wait
    assert window.hit("x") is None
