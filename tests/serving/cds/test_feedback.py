from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from serving.cds.feedback import OTHER_REASON
from serving.store.audit import Audit
from serving.store.schema import cds_feedback
from tests.serving.cds.ehr import Ehr, order, orders
from tests.serving.cds.hospital import drafted

SYSTEM = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"


@pytest.fixture
def card(ehr: Ehr) -> dict[str, Any]:
    [card] = ehr.fire("order-sign", orders(order("Amoxicillin"))).json()["cards"]
    return card


def rows(ehr: Ehr, card: dict[str, Any]) -> list[Any]:
    with ehr.http.app.state.service.store.reading() as con:
        return list(con.execute(select(cds_feedback).where(cds_feedback.c.card_id == card["uuid"])))


def overridden(card: dict[str, Any], code: str = "policy-contradicts", **more: Any) -> dict[str, Any]:
    reason = {"reason": {"system": SYSTEM, "code": code}, **more}
    return {"card": card["uuid"], "outcome": "overridden", "overrideReason": reason}


def test_an_override_is_stored_with_its_reason_and_comment(ehr: Ehr, card: dict[str, Any]) -> None:
    answer = ehr.tell("order-sign", overridden(card, userComment="tolerated before"))
    assert (answer.status_code, answer.json()) == (200, {})
    [row] = rows(ehr, card)
    assert (row.card_id, row.outcome, row.reason_code) == (card["uuid"], "overridden", "policy-contradicts")
    assert "tolerated before" in str(row.comment)


def test_a_comment_stays_out_of_the_audit_trail(ehr: Ehr, card: dict[str, Any]) -> None:
    ehr.tell("order-sign", overridden(card, code="MRN 81723", userComment="CANARY"))
    events = str(list(Audit(ehr.http.app.state.service.store).events()))
    assert "card.overridden" in events
    assert "CANARY" not in events
    assert "81723" not in events
    assert rows(ehr, card)[0].reason_code == OTHER_REASON


def test_the_same_feedback_sent_again_is_stored_once(ehr: Ehr, card: dict[str, Any]) -> None:
    for _ in range(2):
        assert ehr.tell("order-sign", overridden(card)).status_code == 200
    assert len(rows(ehr, card)) == 1


def test_a_card_that_nobody_was_shown_is_answered_like_any_other(ehr: Ehr) -> None:
    unknown = {"uuid": "00000000-0000-4000-8000-000000000000"}
    answer = ehr.tell("order-sign", overridden(unknown))
    assert (answer.status_code, answer.json(), rows(ehr, unknown)) == (200, {}, [])


def test_a_card_of_another_service_is_unknown(ehr: Ehr, card: dict[str, Any]) -> None:
    assert ehr.tell("patient-view", overridden(card)).status_code == 200
    assert rows(ehr, card) == []


def test_a_click_is_stored_with_its_suggestion(ehr: Ehr) -> None:
    card = drafted(ehr)
    before = len(ehr.fhir.resources)
    assert ehr.click("patient-view", card, card["suggestions"][1]).status_code == 200
    assert ehr.fhir.resources[before]["intent"] == "proposal"
    assert [row.suggestion_id for row in rows(ehr, card)] == [card["suggestions"][1]["uuid"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcome": "accepted"},
        {"outcome": "accepted", "acceptedSuggestions": []},
        {"outcome": "ignored"},
        {"outcome": "overridden", "card": ""},
        {"outcome": "overridden", "card": 7},
    ],
)
def test_feedback_that_does_not_fit_is_refused(ehr: Ehr, wrong: dict[str, Any]) -> None:
    refused = ehr.tell("order-sign", {"card": "c1", **wrong})
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (422, "structure")


def test_feedback_signed_for_the_service_and_not_for_feedback_is_refused(ehr: Ehr, card: dict[str, Any]) -> None:
    url = next(url for url, one in ehr.services.items() if one["hook"] == "order-sign")
    body = {"feedback": [{**overridden(card), "outcomeTimestamp": "2026-11-21T01:05:31Z"}]}
    assert ehr.http.post(f"{url}/feedback", json=body, headers=ehr.signed(url)).status_code == 401
