from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cds.words import WORD_JOINER
from tests.serving.cds.ehr import Ehr, order, orders


def cards_of(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    cards: list[dict[str, Any]] = answer.json()["cards"]
    return cards


def tiers(answer: Any) -> list[str]:
    return [card["indicator"] for card in cards_of(answer)]


def test_an_order_against_an_allergy_is_one_critical_card(ehr: Ehr) -> None:
    [card] = cards_of(ehr.fire("order-sign", orders(order("Amoxicillin"), order("Ampicillin", "n2"))))
    assert card["indicator"] == "critical"
    assert "Amoxicillin" in card["detail"]
    assert "Ampicillin" in card["detail"]


def test_only_selected_orders_are_screened_but_against_all_others(ehr: Ehr) -> None:
    both = [order("Amoxicillin"), order("Docusate sodium", "n2")]
    assert tiers(ehr.fire("order-select", orders(*both, selected=["n2"]))) == []
    assert tiers(ehr.fire("order-select", orders(*both, selected=["n1"]))) == ["critical"]
    beside = [order("Oxycodone"), order("Lorazepam", "n2")]
    [card] = cards_of(ehr.fire("order-select", orders(*beside, selected=["n1"])))
    assert card["indicator"] == "warning"
    assert "Lorazepam" in card["detail"]


def test_an_order_is_screened_against_what_the_patient_takes(ehr: Ehr) -> None:
    [card] = cards_of(ehr.fire("order-sign", orders(order("Heparin"))))
    assert card["indicator"] == "warning"
    assert "Warfarin" in card["detail"]


@pytest.mark.parametrize("again", [{"order_id": "m1"}, {"priorPrescription": {"reference": "MedicationRequest/m1"}}])
def test_an_order_that_is_signed_again_does_not_clash_with_itself(ehr: Ehr, again: dict[str, Any]) -> None:
    [card] = cards_of(ehr.fire("order-sign", orders(order("Warfarin"))))
    assert "Already among the current orders" in card["summary"]
    assert tiers(ehr.fire("order-sign", orders(order("Warfarin", **again)))) == []


def test_critical_and_warning_findings_make_a_card_each_and_no_more(ehr: Ehr) -> None:
    many = orders(
        *[order(name, f"n{n}") for n, name in enumerate(["Amoxicillin", "Heparin", "Oxycodone", "Lorazepam"])]
    )
    assert tiers(ehr.fire("order-sign", many)) == ["critical", "warning"]


def test_other_requests_are_passed_over(ehr: Ehr) -> None:
    service = {"resourceType": "ServiceRequest", "id": "s1", "status": "draft", "intent": "order"}
    assert tiers(ehr.fire("order-sign", orders(service))) == []
    assert tiers(ehr.fire("order-select", orders(service) | {"selections": ["ServiceRequest/s1"]})) == []


def test_an_order_that_is_being_stopped_is_not_screened(ehr: Ehr) -> None:
    assert tiers(ehr.fire("order-sign", orders(order("Amoxicillin", status="stopped")))) == []


def test_orders_that_cannot_be_read_are_counted_and_told(ehr: Ehr) -> None:
    [card] = cards_of(ehr.fire("order-sign", orders(order(None), order("Zzyzxomab", "n2"), order("Docusate", "n3"))))
    assert card["indicator"] == "info"
    assert card["summary"] == "2 of 3 medication orders could not be screened."
    assert "Not screened: Zzyzxomab, 1 order without a readable drug." in card["detail"]


def test_a_selection_that_leads_nowhere_is_told(ehr: Ehr) -> None:
    [card] = cards_of(ehr.fire("order-select", orders(order("Docusate"), selected=["n9"])))
    assert card["summary"] == "1 of 1 medication orders could not be screened."


def test_a_referenced_medication_in_the_same_bundle_is_screened(ehr: Ehr) -> None:
    medication = {"resourceType": "Medication", "id": "med", "code": {"text": "Amoxicillin"}}
    referring = order(None, medicationReference={"reference": "Medication/med"})
    assert tiers(ehr.fire("order-sign", orders(referring, medication))) == ["critical"]


def test_an_order_known_by_its_atc_code_alone_is_screened(ehr: Ehr) -> None:
    coding = {"coding": [{"system": "http://www.whocc.no/atc", "code": "J01CA04"}], "text": "아목시실린캡슐500밀리그램"}
    assert tiers(ehr.fire("order-sign", orders(order(None, medicationCodeableConcept=coding)))) == ["critical"]


def without(ehr: Ehr, *keys: str, **changed: Any) -> dict[str, Any]:
    service = next(one for one in ehr.services.values() if one["hook"] == "order-sign")
    prefetch = ehr.prefetch(service["prefetch"], {"patientId": "p1"})
    return {key: value for key, value in {**prefetch, **changed}.items() if key not in keys}


def test_missing_allergies_are_told_and_not_taken_for_none(ehr: Ehr) -> None:
    harmless = orders(order("Docusate"))
    [card] = cards_of(ehr.fire("order-sign", harmless, prefetch=without(ehr, "allergies")))
    assert card["summary"] == "Not everything could be screened: allergies."
    assert tiers(ehr.fire("order-sign", harmless, prefetch=without(ehr, allergies=None))) == []


def test_missing_lists_are_told_when_orders_are_signed_and_not_with_each_selection(ehr: Ehr) -> None:
    harmless = orders(order("Docusate"), selected=["n1"])
    gone = without(ehr, "allergies", "medications")
    assert tiers(ehr.fire("order-select", harmless, prefetch=gone)) == []
    assert tiers(ehr.fire("order-sign", harmless, prefetch=gone)) == ["info"]


def test_one_page_of_allergies_still_alerts_but_does_not_count_as_all_of_them(ehr: Ehr) -> None:
    page = without(ehr)
    page["allergies"]["link"] = [{"relation": "next", "url": "https://ehr.example.org/next"}]
    assert tiers(ehr.fire("order-sign", orders(order("Amoxicillin")), prefetch=page)) == ["critical"]
    [card] = cards_of(ehr.fire("order-sign", orders(order("Docusate")), prefetch=page))
    assert "not evaluated: allergies" in card["detail"]


def test_orders_are_screened_though_the_diagnoses_are_missing(ehr: Ehr) -> None:
    answer = ehr.fire("order-sign", orders(order("Amoxicillin")), prefetch=without(ehr, "conditions"))
    assert tiers(answer) == ["critical"]


def test_a_context_without_orders_does_not_fit(ehr: Ehr) -> None:
    assert ehr.fire("order-sign").status_code == 422
    assert ehr.fire("order-select", orders(order("Aspirin"))).status_code == 422


def test_cards_speak_the_language_of_the_caller_else_that_of_the_site(connect: Any) -> None:
    ehr = connect(language="ko")
    dangerous = orders(order("Amoxicillin"))
    assert cards_of(ehr.fire("order-sign", dangerous))[0]["summary"].startswith("심각: Amoxicillin")
    ehr.http.headers["Accept-Language"] = "en-US,en;q=0.9,ko;q=0.1"
    assert cards_of(ehr.fire("order-sign", dangerous))[0]["summary"].startswith("Critical: Amoxicillin")


def test_what_a_client_writes_stays_text(ehr: Ehr) -> None:
    evil = "Zzyzx <img src=x onerror=alert(1)> | `x` [a](https://evil.example.org) *b*"
    [card] = cards_of(ehr.fire("order-sign", orders(order(evil))))
    shown = card["detail"].replace(WORD_JOINER, "")
    assert r"\<img src=x onerror=alert(1)\> \| \`x\` \[a\](https://evil.example.org) \*b\*" in shown


def test_rules_only_means_no_draft_is_queued(ehr: Ehr) -> None:
    records = ehr.http.app.state.service.drafts.records
    before = records.list(None, None, 100)
    ehr.fire("order-sign", orders(order("Amoxicillin")))
    assert records.list(None, None, 100) == before


WORDS = st.sampled_from(
    [
        *("resourceType", "entry", "resource", "link", "relation", "coding", "system", "code", "display", "text", "id"),
        *("subject", "reference", "status", "birthDate", "gender", "medicationCodeableConcept", "medicationReference"),
        *("valueQuantity", "value", "unit", "effectiveDateTime", "contained", "clinicalStatus", "fullUrl", "issue"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            "Bundle",
            "Patient",
            "Condition",
            "MedicationRequest",
            "AllergyIntolerance",
            "Observation",
            "OperationOutcome",
        ),
        *("Patient/p1", "p1", "http://loinc.org", "2160-0", "mg/dL", "I50.9", "http://hl7.org/fhir/sid/icd-10-cm"),
        *("1950-01-01", "male", "active", "next", "Warfarin", "#m", "\ud800", "\x00", "x" * 300),
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=6),
    max_leaves=30,
)
PREFETCH = st.dictionaries(
    st.sampled_from(["patient", "conditions", "allergies", "medications", "creatinine", "potassium"]), ANY_JSON
)


@settings(max_examples=60)
@given(PREFETCH, ANY_JSON, st.sampled_from(["patient-view", "order-select", "order-sign"]))
def test_no_json_makes_the_service_fail(hospital: Ehr, prefetch: dict[str, Any], bundle: Any, hook: str) -> None:
    context = {"draftOrders": bundle, "selections": ["MedicationRequest/n1"]}
    known = {
        "patient": {"resourceType": "Patient", "id": "p1"},
        "conditions": hospital.fhir.answer("Condition?patient=p1"),
    }
    for given_prefetch in (prefetch, known | prefetch):
        url = next(url for url, one in hospital.services.items() if one["hook"] == hook)
        body = {
            "hook": hook,
            "hookInstance": "1",
            "context": {"userId": "u", "patientId": "p1", **context},
            "prefetch": given_prefetch,
        }
        sent = json.dumps(body)  # escapes what UTF-8 cannot hold, as a careless client does
        headers = {**hospital.signed(url), "Content-Type": "application/json"}
        answer = hospital.http.post(url, content=sent, headers=headers)
        assert answer.status_code in (200, 412, 422), answer.text
