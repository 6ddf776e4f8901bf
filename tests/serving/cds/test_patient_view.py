from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.access.principal import Principal, Role
from serving.recommendation import Drafter, LateError
from serving.schemas import Draft, ReviewRequest
from serving.store.cds import Cds
from serving.store.errors import StoreError, UnknownDraftError
from tests.serving.cds.ehr import Ehr
from tests.serving.cds.fhir_server import allergy, coded, patient_record
from tests.serving.cds.hospital import URL, drafted, wait_ready

Connect = Callable[..., Ehr]
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
CLINICIAN = Principal("key:1", "a ward", frozenset({Role.CLINICIAN}))


@pytest.fixture
def ehr(connect: Connect) -> Ehr:
    """An EHR on a service of its own: drafts are counted."""
    ehr = connect()
    wait_ready(ehr)
    return ehr


def card_of(answer: Any) -> dict[str, Any]:
    [card] = answer.json()["cards"]
    return card


def draft_id_of(card: dict[str, Any]) -> str:
    return card["links"][0]["url"].removeprefix(f"{URL}/drafts/")


def drugs(card: dict[str, Any]) -> list[str]:
    resources = [one["actions"][0]["resource"] for one in card.get("suggestions", ())]
    return [one["medicationCodeableConcept"]["text"] for one in resources]


def service_of(ehr: Ehr) -> Any:
    return ehr.http.app.state.service


def stored_drafts(ehr: Ehr) -> int:
    return len(service_of(ehr).drafts.records.list(None, None, 100))


def get(ehr: Ehr, draft_id: str, principal: Principal = CLINICIAN) -> Draft:
    return ehr.http.portal.call(service_of(ehr).drafts.get, draft_id, principal)


def review(ehr: Ehr, draft_id: str, **decision: Any) -> Draft:
    request = ReviewRequest(if_version=get(ehr, draft_id).version, **decision)
    return ehr.http.portal.call(service_of(ehr).drafts.review, draft_id, request, CLINICIAN)


def test_the_first_call_links_to_a_draft_that_the_next_one_suggests(ehr: Ehr) -> None:
    waiting = card_of(ehr.fire("patient-view"))
    assert "suggestions" not in waiting
    ready = drafted(ehr)
    assert draft_id_of(ready) == draft_id_of(waiting)
    made = get(ehr, draft_id_of(ready))
    assert drugs(ready) == [row.drug for row in made.drugs]
    assert f"| 1 | {made.drugs[0].drug} |" in ready["detail"]


def test_many_calls_at_once_queue_one_draft(ehr: Ehr) -> None:
    with ThreadPoolExecutor(8) as pool:
        cards = list(pool.map(lambda _: card_of(ehr.fire("patient-view")), range(16)))
    assert len({draft_id_of(card) for card in cards}) == 1
    assert stored_drafts(ehr) == 1


def test_other_facts_queue_a_newer_draft_and_the_card_says_so(ehr: Ehr) -> None:
    first = draft_id_of(drafted(ehr))
    ehr.fhir.resources.append(
        {"resourceType": "Condition", "id": "c3", "code": coded(ICD, "J18.9"), "subject": {"reference": "Patient/p1"}}
    )
    changed = card_of(ehr.fire("patient-view"))
    assert "A newer draft is being made" in changed["detail"]
    assert draft_id_of(changed) != first
    assert stored_drafts(ehr) == 2


def test_the_age_of_a_laboratory_value_alone_queues_nothing(ehr: Ehr) -> None:
    drafted(ehr)
    for resource in ehr.fhir.resources:
        if resource["resourceType"] == "Observation":
            resource["effectiveDateTime"] = "2020-01-01T00:00:00Z"
    card = card_of(ehr.fire("patient-view"))
    assert "newer" not in card["detail"]
    assert stored_drafts(ehr) == 1


def test_an_old_draft_is_not_shown(connect: Connect) -> None:
    ehr = connect(cds_draft_hours=1e-6)
    first, second = (draft_id_of(card_of(ehr.fire("patient-view"))) for _ in range(2))
    assert first != second


def test_another_patient_gets_a_draft_of_their_own(ehr: Ehr) -> None:
    first = draft_id_of(drafted(ehr))
    ehr.fhir.resources += patient_record("p2")
    other = card_of(ehr.fire("patient-view", {"patientId": "p2"}))
    assert draft_id_of(other) != first
    assert "suggestions" not in other


def test_proposals_are_for_the_patient_and_stay_of_the_context(ehr: Ehr) -> None:
    resource = drafted(ehr)["suggestions"][0]["actions"][0]["resource"]
    assert (resource["subject"], resource["encounter"]) == ({"reference": "Patient/p1"}, {"reference": "Encounter/e1"})


def test_a_drug_with_a_critical_alert_by_what_is_known_now_is_not_offered(ehr: Ehr) -> None:
    offered = drugs(drafted(ehr))
    assert "aspirin" in offered
    ehr.fhir.resources.append(allergy("Aspirin"))
    card = card_of(ehr.fire("patient-view"))
    assert drugs(card) == [drug for drug in offered if drug != "aspirin"]
    assert "Not offered with a click" in card["detail"]
    assert "| aspirin |" in card["detail"]


def test_rejected_drugs_are_not_suggested_and_edited_ones_are_as_edited(ehr: Ehr) -> None:
    card = drafted(ehr)
    draft_id, offered = draft_id_of(card), drugs(card)
    review(ehr, draft_id, item_id="i1", decision="reject", reason_code="patient-refuses")
    review(ehr, draft_id, item_id="i3", decision="edit", edited_drug="ibuprofen", reason_code="policy-contradicts")
    after = card_of(ehr.fire("patient-view"))
    assert drugs(after) == [offered[1], "ibuprofen", *offered[3:]]
    assert "| 3 | ibuprofen | – |" in after["detail"]


def test_clinicians_may_open_what_a_hook_queued_and_others_may_not(ehr: Ehr) -> None:
    draft_id = draft_id_of(drafted(ehr))
    assert get(ehr, draft_id).draft_id == draft_id
    with pytest.raises(UnknownDraftError):
        get(ehr, draft_id, Principal("key:2", "keys", frozenset({Role.ADMIN})))


def test_sharing_can_be_turned_off(connect: Connect) -> None:
    ehr = connect(cds_drafts_shared=False)
    with pytest.raises(UnknownDraftError):
        get(ehr, draft_id_of(card_of(ehr.fire("patient-view"))))


def test_a_patient_without_a_diagnosis_gets_no_card(ehr: Ehr) -> None:
    ehr.fhir.resources[:] = [one for one in ehr.fhir.resources if one["resourceType"] != "Condition"]
    assert ehr.fire("patient-view").json() == {"cards": []}


def test_someone_elses_record_in_the_prefetch_is_refused(ehr: Ehr) -> None:
    wrong = {"patient": {"resourceType": "Patient", "id": "p2"}, "conditions": None}
    assert ehr.fire("patient-view", prefetch=wrong).status_code == 412


def test_the_queue_waits_for_a_model_that_is_loading(connect: Connect, baseline: Drafter) -> None:
    loaded = threading.Event()

    def load() -> Drafter:
        loaded.wait(10)
        return baseline

    ehr = connect(load=load)
    waiting = draft_id_of(card_of(ehr.fire("patient-view")))
    assert get(ehr, waiting).state == "queued"
    loaded.set()
    assert draft_id_of(drafted(ehr)) == waiting


class Failing:
    """A drafter that is late the first time."""

    def __init__(self, baseline: Drafter) -> None:
        self.vocabulary, self.identity, self.recommend = baseline.vocabulary, baseline.identity, baseline.recommend
        self._draft, self.calls = baseline.draft, 0

    async def draft(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise LateError("late")
        return await self._draft(*args)


def test_a_draft_that_failed_is_tried_again_at_the_next_call(connect: Connect, baseline: Drafter) -> None:
    failing: Any = Failing(baseline)
    ehr = connect(load=lambda: failing)
    first = draft_id_of(card_of(ehr.fire("patient-view")))
    assert draft_id_of(drafted(ehr)) != first
    assert (failing.calls, get(ehr, first).state) == (2, "failed")


def test_a_full_queue_is_told_but_a_stored_draft_is_shown_all_the_same(connect: Connect, baseline: Drafter) -> None:
    ehr = connect(queue_limit=1)
    shown = drafted(ehr)
    service_of(ehr).drafts.records.waiting = lambda: 1
    ehr.fhir.resources[0]["birthDate"] = "1940-01-01"
    assert draft_id_of(card_of(ehr.fire("patient-view"))) == draft_id_of(shown)
    ehr.fhir.resources += patient_record("p2")
    refused = ehr.fire("patient-view", {"patientId": "p2"})
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (503, "transient")
    assert "retry-after" in refused.headers


def test_a_card_that_cannot_be_recorded_is_not_shown(ehr: Ehr, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Cds, "add_cards", fail)
    refused = ehr.fire("patient-view")
    assert refused.status_code == 503
    assert "cards" not in refused.text


def test_nothing_that_names_the_patient_or_opens_the_record_reaches_the_store(ehr: Ehr, tmp_path: Path) -> None:
    name = "CANARY-81723"
    ehr.fhir.resources[:] = patient_record(name)
    secret = {"fhirServer": "https://canary.example.org", "fhirAuthorization": {"access_token": "CANARY-TOKEN"}}
    context = {"patientId": name, "userId": "Practitioner/CANARY-USER", "encounterId": "CANARY-STAY"}
    for _ in range(2):
        assert ehr.fire("patient-view", context, **secret).status_code == 200
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("rx.sqlite3*"))
    assert b"canary" not in kept.lower()
    assert b"1950-01-01" not in kept


def test_the_summary_counts_diagnoses_and_drugs(ehr: Ehr) -> None:
    card = drafted(ehr)
    assert card["summary"] == f"Draft: {len(drugs(card))} drugs proposed from 2 diagnoses. Review before ordering."


def test_gaps_in_what_was_sent_are_told_on_the_card(ehr: Ehr) -> None:
    drafted(ehr)
    service = next(one for one in ehr.services.values() if one["hook"] == "patient-view")
    prefetch = ehr.prefetch(service["prefetch"], {"patientId": "p1"})
    del prefetch["medications"]
    prefetch["allergies"]["link"] = [{"relation": "next", "url": "https://ehr.example.org/next"}]
    card = card_of(ehr.fire("patient-view", prefetch=prefetch))
    assert (
        "Not evaluated: allergies (not or only partly sent), current medication (not or only partly sent)."
        in card["detail"]
    )


def test_the_card_names_allergies_that_no_rule_knows(ehr: Ehr) -> None:
    ehr.fhir.resources.append(allergy("Zzyzx"))
    assert "Recorded allergies that no rule knows: Zzyzx." in drafted(ehr)["detail"]


def test_both_fhir_validators_take_what_a_real_draft_becomes(ehr: Ehr) -> None:
    from fhir.resources.R4B.bundle import Bundle

    from serving.fhir.bundle import draft_bundle
    from tests.serving.fhir.test_bundle import validate

    ehr.fhir.resources.append(allergy("Aspirin"))
    card = drafted(ehr)
    bundle = draft_bundle(get(ehr, draft_id_of(card)).model_dump(mode="json"), URL, "p1", "e1")
    assert {entry["resource"]["resourceType"] for entry in bundle["entry"]} >= {"MedicationRequest", "DetectedIssue"}
    Bundle.model_validate(bundle)
    proposed = [one["actions"][0]["resource"] for one in card["suggestions"]]
    assert validate([bundle, *proposed]) == []
