"""From signing in to the export, in a real browser against the real service."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.page.running import Running
from tests.serving.page.states import choose, finalised, new_draft, show

Visit = Callable[..., Any]
HOSTILE = '"\'><img src=x onerror="window.hit=1"><script>window.hit=1</script>{{7*7}}'


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_reader_gets_from_signing_in_to_the_export(visit: Visit, service: Running, language: str) -> None:
    page = visit(language=language, signed_in=False)
    page.goto(service.address)
    page.fill("#key", service.key)
    page.click("#sign-in button")
    page.wait_for_selector("#models option", state="attached")

    page.locator("#diagnoses-input").press_sequentially("heart")
    page.click("#diagnoses-list li:first-child")
    assert "ICD-" in page.inner_text("ol[aria-label] li:first-child")
    choose(page, "allergies", "penicillin")
    page.fill("#age", "71")
    page.fill("#potassium_mmol_l", "4.1")
    page.fill("#potassium_mmol_l-hours", "3")
    page.click("button[type=submit]")
    page.wait_for_selector("#review:visible")

    rows = page.locator("#drugs tbody tr")
    assert page.locator("#drugs input:checked").count() == 0
    assert page.is_disabled("#finalise")
    for place in range(rows.count()):
        decide(page, rows.nth(place), "accept" if place else "reject")
    page.click("#finalise")
    page.click("#sure button[value=yes]")
    page.wait_for_selector(".state-tag[data-state=final]")
    assert page.locator("#drugs input:visible").count() == 0

    draft = page.url.rpartition("/")[2]
    exported = {kind: page.request.get(f"{service.address}/v1/drafts/{draft}/export?format={kind}") for kind in _KINDS}
    assert all(answer.ok for answer in exported.values())
    assert json.loads(exported["fhir"].text())["resourceType"] == "Bundle"
    assert len(list(csv.reader(io.StringIO(exported["csv"].text())))) > rows.count()
    for link in page.locator(".exports a[download]").all():
        assert page.request.get(service.address + link.get_attribute("href")).ok


_KINDS = ("json", "csv", "fhir")


def decide(page: Any, row: Any, decision: str) -> None:
    """Decide about a row, with a reason where one is asked for."""
    row.locator(f"input[value={decision}]").check()
    page.wait_for_function(
        "row => row.dataset.decision || row.querySelector('.more:not([hidden])')", arg=row.element_handle()
    )
    if row.locator(".more").is_visible():
        if row.locator(".reasons").is_visible():
            row.locator("select").select_option("risk-benefit-ratio")
        row.locator("button[type=submit]").click()
    page.wait_for_function("row => row.dataset.decision", arg=row.element_handle())


def test_everything_can_be_done_by_keyboard(visit: Visit, service: Running) -> None:
    page = visit(signed_in=False)
    page.goto(service.address)
    page.keyboard.type(service.key)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#models option", state="attached")
    tab_to(page, "#diagnoses-input")
    page.keyboard.type("heart")
    page.wait_for_selector("#diagnoses-list li")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#diagnoses-input", "aria-activedescendant") == "diagnoses-list-0"
    page.keyboard.press("Enter")
    tab_to(page, "#allergies-input")
    page.keyboard.type(service.draft()["drugs"][0]["drug"])
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    tab_to(page, "#facts button[type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#review:visible")

    assert page.evaluate("document.activeElement.closest('tr')?.dataset.tier") == "critical"
    rows = page.locator("#drugs tbody tr").count()
    for place in range(1, rows + 1):
        tab_to(page, f"#row-i{place} input[type=radio]")
        if place == 1:
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")  # over edit to reject; neither is saved by that
            tab_to(page, "#row-i1 select")
            page.keyboard.press("ArrowDown")
            tab_to(page, "#row-i1 button[type=submit]")
            page.keyboard.press("Enter")
        else:
            page.keyboard.press("Space")
        page.wait_for_selector(f"#row-i{place}[data-decision]:not([data-decision=''])")
    tab_to(page, "#finalise")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#sure[open]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "finalise"
    page.keyboard.press("Enter")
    tab_to(page, "#sure button[value=yes]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".state-tag[data-state=final]")


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(120):
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def test_passing_over_accept_with_the_arrow_keys_records_nothing(visit: Visit, service: Running) -> None:
    page, draft = visit(), service.draft()
    show(page, service, draft)
    page.focus("#row-i1 input[value=edit]")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#row-i1 .more:visible")
    assert page.is_checked("#row-i1 input[value=accept]")
    page.wait_for_timeout(200)
    assert read(page, service, draft)["version"] == draft["version"]


def test_an_edit_keeps_the_original_beside_it_and_is_screened(visit: Visit, service: Running) -> None:
    page, draft = visit(), service.draft(current_drugs=["lorazepam"])
    show(page, service, draft)
    page.check("#row-i1 input[value=edit]")
    page.fill("#row-i1 [role=combobox]", "oxycodone")
    page.keyboard.press("Escape")
    page.click("#row-i1 button[type=submit]")
    page.wait_for_selector("#row-i1[data-decision=edit]")
    assert draft["drugs"][0]["drug"] in page.inner_text("#row-i1 .drafted")
    assert page.inner_text("#row-i1 .changed .name") == "oxycodone"
    assert "opioid-benzodiazepine" in page.text_content("#row-i1 .alerts")


def test_who_edits_to_a_critical_drug_reads_which_rule_fires_before_giving_a_reason(
    visit: Visit, service: Running
) -> None:
    page, draft = visit(), service.draft(allergies=[{"substance": "penicillin"}])
    show(page, service, draft)
    page.check("#row-i1 input[value=edit]")
    page.fill("#row-i1 [role=combobox]", draft["drugs"][1]["drug"])
    page.keyboard.press("Escape")
    page.click("#row-i1 button[type=submit]")
    assert "Already listed" in page.inner_text("#row-i1 .error")
    page.fill("#row-i1 [role=combobox]", "ampicillin")
    page.keyboard.press("Escape")
    page.click("#row-i1 button[type=submit]")
    page.wait_for_selector("#row-i1 .fired:visible")
    assert "allergy-penicillins" in page.inner_text("#row-i1 .fired")
    page.select_option("#row-i1 select", "risk-benefit-ratio")
    page.click("#row-i1 button[type=submit]")
    page.wait_for_selector("#row-i1[data-decision=edit]")
    assert "ampicillin" in page.text_content("#alerts .critical .where")
    assert page.locator("#row-i1 .of-drafted:visible").count() == 2


def test_a_critical_row_is_open_focused_and_not_decided_without_a_reason(visit: Visit, service: Running) -> None:
    page, draft = visit(), service.critical_draft()
    show(page, service, draft)
    assert page.evaluate("document.activeElement.closest('tr').id") == "row-i2"
    assert page.locator("#row-i2 .alerts details[open]").count() == 1
    page.check("#row-i2 input[value=accept]")
    page.click("#row-i2 button[type=submit]")
    assert page.is_visible("#row-i2 .error")
    assert read(page, service, draft)["version"] == draft["version"]
    page.select_option("#row-i2 select", "risk-benefit-ratio")
    page.click("#row-i2 button[type=submit]")
    page.wait_for_selector("#row-i2[data-decision=accept]")


def test_a_decision_can_be_undone(visit: Visit, service: Running) -> None:
    page, draft = visit(), service.draft()
    show(page, service, draft)
    page.check("#row-i1 input[value=accept]")
    page.click("#row-i1 .undo")
    page.wait_for_selector("#row-i1[data-decision='']")
    assert page.locator("#drugs input:checked").count() == 0
    assert "review" not in read(page, service, draft)["drugs"][0]


def test_stored_markup_stays_text(visit: Visit, service: Running) -> None:
    """In diagnoses, drugs, allergies and reasons; on the review, on paper and in the history."""
    listed = [HOSTILE]
    draft = service.draft(
        diagnoses=[{"text": HOSTILE}], current_drugs=listed, previous_drugs=listed, allergies=[{"substance": HOSTILE}]
    )
    draft = service.decide(draft, 0, "edit", edited_drug=HOSTILE)
    draft = service.decide(draft, 1, "reject", reason_code="need-more-info", reason_text=HOSTILE)
    page = visit()
    for address in (f"/drafts/{draft['draft_id']}", f"/drafts/{draft['draft_id']}/print", "/drafts"):
        page.goto(service.address + address)
        page.wait_for_selector("#review:visible, #history:visible")
        assert page.evaluate("window.hit") is None
        assert page.locator("main img, main script").count() == 0
    show(page, service, draft)
    for place in ("#used", "#row-i1 .changed", "#row-i2 .why", "#gaps"):
        assert HOSTILE in page.inner_text(place)


def test_what_changed_elsewhere_is_shown_and_not_overwritten(visit: Visit, service: Running) -> None:
    page, draft = visit(), service.draft()
    show(page, service, draft)
    changed = service.decide(draft, 0, "reject", reason_code="patient-refuses")
    page.check("#row-i2 input[value=accept]")
    page.wait_for_selector("#changed:visible")
    assert draft["drugs"][0]["drug"] in page.inner_text("#changed")
    assert page.locator("#row-i1[data-decision=reject]").count() == 1
    assert page.locator("#drugs input:checked").count() == 1
    assert read(page, service, draft)["version"] == changed["version"]


def test_a_waiting_draft_shows_its_place_and_can_be_cancelled(visit: Visit, service: Running) -> None:
    page = visit()
    service.drafter.free.clear()
    new_draft(page, service)
    choose(page, "diagnoses", "heart failure")
    page.click("button[type=submit]")
    page.wait_for_selector("#waiting:visible")
    assert page.inner_text("#waiting .what")
    page.click("#cancel")
    page.wait_for_selector("#ended:visible")
    assert read(page, service, {"draft_id": page.url.rpartition("/")[2]})["state"] == "cancelled"


def test_a_draft_appears_when_it_is_made(visit: Visit, service: Running) -> None:
    page = visit()
    service.drafter.free.clear()
    draft = service.post("/v1/drafts", {"diagnoses": [{"text": "heart failure"}]}, Prefer="respond-async")
    page.goto(f"{service.address}/drafts/{draft['draft_id']}")
    page.wait_for_selector("#waiting:visible")
    service.drafter.free.set()
    page.wait_for_selector("#review:visible")


def test_who_may_only_read_gets_no_controls(visit: Visit, service: Running) -> None:
    page = visit(signed_in=False)
    page.context.request.post(f"{service.address}/session", data={"key": service.evaluator})
    show(page, service, service.critical_draft())
    assert page.locator("#drugs :is(input, select):visible").count() == 0
    assert not page.is_visible("#finalise")
    assert not page.is_visible("#drugs caption")
    page.goto(service.address)
    assert page.url == f"{service.address}/drafts"
    assert "Everybody's drafts" in page.inner_text("main")


def test_a_link_from_an_ehr_finds_who_is_signed_in(browser: Any, service: Running) -> None:
    """The session's cookie does not come along from another site; the sign-in page looks for it itself."""
    draft, context = service.draft(), browser.new_context()
    context.request.post(f"{service.address}/session", data={"key": service.key})
    page = context.new_page()
    link = f"<a href='{service.address}/drafts/{draft['draft_id']}'>Open review page</a>"
    page.route("http://ehr.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto("http://ehr.example/")
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.click("a")
    page.wait_for_selector("#review:visible")
    context.close()
    assert any("/sign-in?next=" in url for url in asked)  # else the browser sent the cookie, and nothing was shown


def test_signing_out_ends_the_session(visit: Visit, service: Running) -> None:
    page = visit()
    page.goto(f"{service.address}/drafts")
    page.click("#sign-out")
    page.wait_for_selector("#sign-in")
    page.goto(f"{service.address}/drafts")
    assert page.url.startswith(f"{service.address}/sign-in")


def test_the_printed_review_has_no_controls(visit: Visit, service: Running) -> None:
    page = visit()
    page.goto(f"{service.address}/drafts/{finalised(service)['draft_id']}/print")
    page.wait_for_selector("#review:visible")
    page.emulate_media(media="print")
    assert page.locator("main :is(input, select, button):visible").count() == 0
    assert page.is_visible(".banner")


def test_nothing_is_wider_than_a_small_phone(visit: Visit, service: Running) -> None:
    page = visit(width=360)
    drafted = f"/drafts/{service.critical_draft()['draft_id']}"
    for address in ("/", "/drafts", drafted, "/about/model", "/about/rules", "/about/rules/allergy-ingredient"):
        page.goto(service.address + address)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def read(page: Any, service: Running, draft: dict[str, Any]) -> dict[str, Any]:
    """Return a draft as the service has it."""
    found: dict[str, Any] = page.request.get(f"{service.address}/v1/drafts/{draft['draft_id']}").json()
    return found
