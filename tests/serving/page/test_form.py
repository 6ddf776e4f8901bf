"""The form for a new draft: what it sends, what it refuses, and that nothing entered is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.page.running import Running
from tests.serving.page.states import choose, new_draft

Visit = Callable[..., Any]


def sent(page: Any) -> dict[str, Any]:
    """Submit the form and return the body it sends."""
    with page.expect_request("**/v1/drafts") as asked:
        page.click("#facts button[type=submit]")
    found: dict[str, Any] = json.loads(asked.value.post_data)
    return found


def test_what_is_left_empty_is_not_sent(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    assert sent(page) == {"diagnoses": [{"text": "heart failure"}], "explain": False}


def test_none_recorded_is_sent_as_an_empty_list(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    for field in ("allergies", "current_drugs", "previous_drugs"):
        page.check(f".entries[data-field={field}] .check input")
    body = sent(page)
    assert [body[field] for field in ("allergies", "current_drugs", "previous_drugs")] == [[], [], []]


def test_other_units_are_sent_as_metric_ones(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    for unit, value in (("height_unit", "in"), ("weight_unit", "lb")):
        page.select_option(f"#{unit}", value)
    for field, value in (("height_ft", "5"), ("height_in", "11"), ("weight_kg", "154")):
        page.fill(f"#{field}", value)
    page.fill("#creatinine_mg_dl", "88.42")
    page.select_option(".lab[data-lab=creatinine_mg_dl] select", label="µmol/L")
    page.fill("#creatinine_mg_dl-hours", "2")
    body = sent(page)
    assert body["height_cm"] == pytest.approx(180.3, abs=0.05)
    assert body["weight_kg"] == pytest.approx(69.85, abs=0.01)
    assert body["creatinine_mg_dl"] == {"value": 1, "hours_ago": 2}


def test_switching_a_unit_converts_what_stands_there(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    page.fill("#height_cm", "183")
    page.select_option("#height_unit", "in")
    assert (page.input_value("#height_ft"), page.input_value("#height_in")) == ("6", "0")
    page.select_option("#height_unit", "cm")
    assert float(page.input_value("#height_cm")) == pytest.approx(183, abs=0.2)


def test_diagnoses_are_sent_in_the_order_they_were_put(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    for text in ("first", "second", "third"):
        choose(page, "diagnoses", text)
    page.click("[data-field=diagnoses] li:nth-child(3) .up")
    page.click("[data-field=diagnoses] li:nth-child(1) .remove")
    assert sent(page)["diagnoses"] == [{"text": "third"}, {"text": "second"}]


def test_pregnancy_is_asked_for_only_where_it_applies(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    assert page.is_hidden("#maternity")
    page.check("input[name=sex][value=F]")
    assert page.is_visible("#maternity")
    page.check("input[name=pregnant][value=yes]")
    page.fill("#age", "71")
    assert page.is_hidden("#maternity")
    choose(page, "diagnoses", "heart failure")
    assert "pregnant" not in sent(page)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("age", "200"),
        ("age", "7.5"),
        ("height_cm", "5"),
        ("weight_kg", "1"),
        ("potassium_mmol_l", "4"),
        ("egfr-hours", "2"),
    ],
)
def test_an_impossible_entry_is_named_and_not_sent(visit: Visit, service: Running, field: str, value: str) -> None:
    page = visit()
    page.route("**/v1/drafts", lambda route: pytest.fail("it was sent"))
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.fill(f"#{field}", value)
    page.click("#facts button[type=submit]")
    page.wait_for_selector("#errors:visible")
    assert page.locator("#errors li").count() == 1
    page.click("#errors a")
    assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"


def test_text_that_was_not_added_is_not_silently_dropped(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.fill("#allergies-input", "penicillin")
    page.click("#facts button[type=submit]")
    assert "penicillin" in page.inner_text("#errors")


def test_a_search_asks_once_for_what_was_typed_in_one_go(visit: Visit, service: Running) -> None:
    page, asked = visit(), []
    page.on("request", lambda sent: asked.append(sent.post_data) if sent.url.endswith("/v1/icd") else None)
    new_draft(page, service)
    page.locator("#diagnoses-input").press_sequentially("heart", delay=5)
    page.wait_for_selector("#diagnoses-list li")
    assert [json.loads(body)["q"] for body in asked] == ["heart"]


def test_a_session_that_ended_loses_nothing(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.fill("#age", "71")
    page.context.clear_cookies(name="rxdraft")
    page.click("#facts button[type=submit]")
    page.wait_for_selector("dialog#session[open]")
    page.fill("#session-key", "rxd_wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#session .error:visible")
    page.fill("#session-key", service.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#review:visible")
    assert "71" in page.inner_text("#used")


def test_without_a_connection_the_form_stays_and_goes_on_once_there_is_one(visit: Visit, service: Running) -> None:
    page = visit()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.context.set_offline(True)
    page.click("#facts button[type=submit]")
    page.wait_for_selector("#notice:visible")
    page.context.set_offline(False)
    page.wait_for_selector("#review:visible")


@pytest.mark.parametrize(("status", "code"), [(503, "busy"), (429, "rate_limited"), (503, "store_unavailable")])
def test_a_refusal_says_when_to_try_again_and_the_same_key_is_sent(
    visit: Visit, service: Running, status: int, code: str
) -> None:
    page, keys = visit(), []
    answer = {"status": status, "headers": {"Retry-After": "7"}, "body": json.dumps({"code": code})}

    def refuse_once(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(**answer) if len(keys) == 1 else route.continue_()

    page.route("**/v1/drafts", refuse_once)
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.click("#facts button[type=submit]")
    page.wait_for_selector("#notice:visible")
    assert "7" in page.inner_text("#notice")
    page.click("#notice button")
    page.wait_for_selector("#review:visible")
    assert keys[0] == keys[1]
