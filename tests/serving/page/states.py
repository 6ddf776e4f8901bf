"""Every state of the page by name, and how a reader gets there; shared by the axe tests and the screenshots."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tests.serving.page.running import Running

State = Callable[[Any, Running], None]
"""Brings a page of a signed-in reader into a state."""


def sign_in(page: Any, service: Running) -> None:
    page.context.clear_cookies(name="rxdraft")
    page.goto(f"{service.address}/sign-in")
    page.fill("#key", "rxd_wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#notice:visible")


def new_draft(page: Any, service: Running) -> None:
    page.goto(service.address)
    page.wait_for_selector("#models option", state="attached")


def filled(page: Any, service: Running) -> None:
    new_draft(page, service)
    page.fill("#age", "71")
    page.check("input[name=sex][value=F]")
    page.fill("#height_cm", "163")
    page.select_option("#height_unit", "in")
    page.check(".entries[data-field=allergies] .check input")
    choose(page, "current_drugs", "warfarin")
    choose(page, "diagnoses", "fell from a kerb")
    page.locator("#diagnoses-input").press_sequentially("heart")
    page.wait_for_selector("#diagnoses-list li")
    page.keyboard.press("ArrowDown")


def wrong(page: Any, service: Running) -> None:
    new_draft(page, service)
    page.fill("#age", "200")
    page.fill("#potassium_mmol_l", "5.4")
    page.click("button[type=submit]")
    page.wait_for_selector("#errors:visible")


def busy(page: Any, service: Running) -> None:
    body = '{"code": "busy", "status": 503, "title": "Busy"}'
    answer = {"status": 503, "headers": {"Retry-After": "3"}, "content_type": "application/problem+json", "body": body}
    page.route("**/v1/drafts", lambda route: route.fulfill(**answer))
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.click("button[type=submit]")
    page.wait_for_selector("#notice:visible")


def session_ended(page: Any, service: Running) -> None:
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.context.clear_cookies(name="rxdraft")
    page.click("button[type=submit]")
    page.wait_for_selector("dialog#session[open]")


def waiting(page: Any, service: Running) -> None:
    service.drafter.free.clear()
    try:
        draft = service.post("/v1/drafts", {"diagnoses": [{"text": "heart failure"}]}, Prefer="respond-async")
        page.goto(f"{service.address}/drafts/{draft['draft_id']}")
        page.wait_for_selector("#waiting:visible")
    finally:
        page.context.set_default_timeout(10_000)


def cancelled(page: Any, service: Running) -> None:
    waiting(page, service)
    page.click("#cancel")
    page.wait_for_selector("#ended:visible")
    service.drafter.free.set()


def review(page: Any, service: Running) -> None:
    show(page, service, service.critical_draft())


def deciding(page: Any, service: Running) -> None:
    draft = service.critical_draft()
    draft = service.decide(draft, 0, "accept")
    draft = service.decide(draft, 2, "edit", edited_drug="torsemide")
    draft = service.decide(draft, 3, "reject", reason_code="need-more-info", reason_text="no level yet")
    show(page, service, draft)
    page.check("#row-i2 input[value=accept]")
    page.wait_for_selector("#row-i2 .more:visible")
    page.check("#row-i5 input[value=edit]")
    page.locator("#row-i5 [role=combobox]").press_sequentially("asp")
    page.wait_for_selector("#row-i5 [role=option]")


def all_decided(page: Any, service: Running) -> None:
    show(page, service, decided(service))
    page.click("#finalise")
    page.wait_for_selector("dialog#sure[open]")


def final(page: Any, service: Running) -> None:
    show(page, service, finalised(service))


def paper(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/drafts/{finalised(service)['draft_id']}/print")
    page.wait_for_selector("#review:visible")


def conflict(page: Any, service: Running) -> None:
    draft = service.draft()
    show(page, service, draft)
    service.decide(draft, 0, "reject", reason_code="patient-refuses")
    page.check("#row-i2 input[value=accept]")
    page.wait_for_selector("#changed:visible")


def history(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/drafts")
    page.wait_for_selector("#history:visible, #none:visible")


def missing(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/drafts/of-nobody")
    page.wait_for_selector("#ended:visible")


def model(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/about/model")


def rules(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/about/rules")


def rule(page: Any, service: Running) -> None:
    page.goto(f"{service.address}/about/rules/allergy-ingredient")


STATES: dict[str, State] = {
    state.__name__: state
    for state in (
        *(sign_in, new_draft, filled, wrong, busy, session_ended, waiting, cancelled),
        *(review, deciding, all_decided, final, paper, conflict, history, missing, model, rules, rule),
    )
}


def choose(page: Any, field: str, text: str) -> None:
    """Add an entry as written."""
    page.fill(f"#{field}-input", text)
    page.press(f"#{field}-input", "Enter")


def show(page: Any, service: Running, draft: dict[str, Any]) -> None:
    """Open a draft that is made."""
    page.goto(f"{service.address}/drafts/{draft['draft_id']}")
    page.wait_for_selector("#review:visible")


@cache
def decided(service: Running) -> dict[str, Any]:
    """Make a draft, once, and decide about all its drugs."""
    draft = service.draft()
    for place in range(len(draft["drugs"])):
        draft = service.decide(draft, place, "accept")
    return draft


@cache
def finalised(service: Running) -> dict[str, Any]:
    """Make a draft, once, decide about all its drugs and finalise it."""
    draft = decided.__wrapped__(service)
    return service.post(f"/v1/drafts/{draft['draft_id']}/finalize", {"if_version": draft["version"]})
