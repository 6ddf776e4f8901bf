"""The life of a draft over HTTP: made once a key, queued, cancelled, reviewed row by row, frozen; nobody else's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.access.principal import Principal, Role
from serving.baselines.service import BaselineRecommender, load_baseline
from serving.drafting.drafts import GoneError
from serving.recommendation import Recommendation
from serving.schemas import DraftRequest, ReviewRequest
from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.errors import StoreError, UnknownDraftError
from serving.store.records import NewDraft
from tests.serving.served import drafted, served

REASON = {"reason_code": "risk-benefit-ratio"}


class Held:
    """A recommender that waits until it is let go, and counts."""

    def __init__(self, recommender: BaselineRecommender) -> None:
        self.vocabulary, self.identity = recommender.vocabulary, recommender.identity
        self._recommender = recommender
        self.go_on, self.asked, self.given_up = threading.Event(), 0, 0
        self.go_on.set()

    def recommend(self, admissions: Any) -> list[Recommendation]:
        return self._recommender.recommend(admissions)

    async def draft(self, admission: Any, seconds: float) -> Recommendation:
        self.asked += 1
        try:
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await self._recommender.draft(admission, seconds)


@pytest.fixture(scope="module")
def baseline(tiny_cohort: Path) -> BaselineRecommender:
    return load_baseline("popularity", tiny_cohort)


@pytest.fixture(scope="module")
def held(baseline: BaselineRecommender) -> Held:
    return Held(baseline)


@pytest.fixture(scope="module")
def client(held: Held) -> Iterator[TestClient]:
    with served(lambda: held) as client:
        yield client


BODY: dict[str, Any] = {"diagnoses": [{"icd_code": "I50.9", "icd_version": 10}], "age": 70}


def make(client: TestClient, body: dict[str, Any] = BODY, **headers: str) -> dict[str, Any]:
    answer = client.post("/v1/drafts", json=body, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def decide(client: TestClient, draft: dict[str, Any], item: int = 0, **review: Any) -> Any:
    body = {"item_id": draft["drugs"][item]["item_id"], "if_version": draft["version"], **review}
    return client.post(f"/v1/drafts/{draft['draft_id']}/reviews", json=body)


def wait_for(client: TestClient, draft_id: str, *states: str) -> dict[str, Any]:
    for _ in range(500):
        draft = client.get(f"/v1/drafts/{draft_id}").json()
        if draft["state"] in states:
            return draft
        time.sleep(0.02)
    raise AssertionError(f"{draft['state']}, wanted one of {states}")


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


# --- made and read --------------------------------------------------------------------------------------


def test_a_draft_reads_as_it_was_answered(client):
    made = make(client)
    assert client.get(f"/v1/drafts/{made['draft_id']}").json() == made


def test_an_idempotency_key_makes_one_draft(client, held):
    before = held.asked
    first, again = (make(client, **{"Idempotency-Key": "one"}) for _ in range(2))
    assert first == again
    assert held.asked == before + 1


def test_a_key_of_another_body_is_refused(client):
    make(client, **{"Idempotency-Key": "two"})
    answer = client.post("/v1/drafts", json={**BODY, "age": 71}, headers={"Idempotency-Key": "two"})
    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")


def test_a_key_is_free_again_when_its_request_failed(client, baseline, held, monkeypatch):
    from serving.recommendation import BusyError

    async def refuse(admission: Any, seconds: float) -> None:
        raise BusyError("full")

    with monkeypatch.context() as patched:
        patched.setattr(held, "draft", refuse)
        assert client.post("/v1/drafts", json=BODY, headers={"Idempotency-Key": "three"}).status_code == 503
    assert make(client, **{"Idempotency-Key": "three"})["state"] == "ready"


def test_a_client_that_goes_leaves_no_draft_and_no_key_behind(client, held):
    service, caller = client.app.state.service, Principal("dev", "dev", frozenset({Role.CLINICIAN}))

    async def leave() -> None:
        await asyncio.sleep(0.05)

    async def ask() -> None:
        await service.drafts.make(DraftRequest.model_validate(BODY), caller, key="gone", gone=leave)

    listed, given_up = client.get("/v1/drafts").json(), held.given_up
    held.go_on.clear()
    try:
        with pytest.raises(GoneError):
            client.portal.call(ask)
    finally:
        held.go_on.set()
    assert held.given_up == given_up + 1
    assert client.get("/v1/drafts").json() == listed
    assert make(client, **{"Idempotency-Key": "gone"})["state"] == "ready"


def test_the_history_is_ones_own_newest_first_page_by_page(client):
    made = [make(client)["draft_id"] for _ in range(3)]
    first = client.get("/v1/drafts", params={"limit": 2}).json()["drafts"]
    assert [one["draft_id"] for one in first] == [made[2], made[1]]
    after = client.get("/v1/drafts", params={"limit": 1, "before": made[1]}).json()["drafts"]
    assert [one["draft_id"] for one in after] == [made[0]]


def test_an_unknown_draft_and_a_model_that_is_not_served_are_told(client):
    assert client.get("/v1/drafts/nothing").json()["code"] == "not_found"
    answer = client.post("/v1/drafts", json={**BODY, "model": "gpt"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- queued ---------------------------------------------------------------------------------------------


def test_a_queued_draft_becomes_the_one_that_a_waiting_client_gets(client):
    queued = client.post("/v1/drafts", json=BODY, headers={"Prefer": "respond-async"})
    assert (queued.status_code, queued.headers["Location"]) == (202, f"/v1/drafts/{queued.json()['draft_id']}")
    done = wait_for(client, queued.json()["draft_id"], "ready")
    assert drafted(done) == drafted(make(client))


def test_a_waiting_draft_tells_its_place_and_can_be_taken_back(client, held):
    held.go_on.clear()
    try:
        ids = [make(client, Prefer="respond-async")["draft_id"] for _ in range(10)]
        running = wait_for(client, ids[0], "running")
        assert "position" not in running
        assert wait_for(client, ids[9], "queued")["position"] == 10
        for one in (ids[9], ids[0]):
            assert client.post(f"/v1/drafts/{one}/cancel").json()["state"] == "cancelled"
    finally:
        held.go_on.set()
    assert {wait_for(client, one, "ready", "cancelled")["state"] for one in ids[1:9]} == {"ready"}
    assert client.get(f"/v1/drafts/{ids[0]}").json()["state"] == "cancelled"


def test_a_full_queue_is_refused_at_once(held):
    with served(lambda: held, queue_limit=1) as client:
        held.go_on.clear()
        try:
            answers = [client.post("/v1/drafts", json=BODY, headers={"Prefer": "respond-async"}) for _ in range(12)]
        finally:
            held.go_on.set()
        assert {answer.status_code for answer in answers} == {202, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {(one.json()["code"], one.headers["Retry-After"]) for one in refused} == {("busy", "1")}
        for answer in answers:
            if answer.status_code == 202:
                wait_for(client, answer.json()["draft_id"], "ready")


def test_a_draft_that_cannot_be_made_fails_with_a_code(client, held, monkeypatch):
    async def fail(admission: Any, seconds: float) -> None:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(held, "draft", fail)
    failed = wait_for(client, make(client, Prefer="respond-async")["draft_id"], "failed")
    assert failed["failure"] == "internal_error"
    assert decide(client, {**failed, "drugs": [{"item_id": "i1"}]}, decision="accept").json()["code"] == (
        "draft_not_ready"
    )


def test_what_a_killed_worker_left_is_made_by_the_next(held, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    store = open_store(url)
    records = Drafts(store)
    records.submit(NewDraft("left", "dev", "api", DraftRequest.model_validate(BODY).model_dump(mode="json")))
    assert [one.draft_id for one in records.claim("killed", 0.01, 1)] == ["left"]
    store.close()
    with served(lambda: held, store_url=url) as client:
        assert drafted(wait_for(client, "left", "ready")) == drafted(make(client))


def test_drafts_whose_worker_died_are_made_one_after_the_other(held, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    store = open_store(url)
    records, request = Drafts(store), DraftRequest.model_validate(BODY).model_dump(mode="json")
    for draft_id in ("one", "two", "fresh"):
        records.submit(NewDraft(draft_id, "dev", "api", request))
    for draft in records.claim("killed", 0.01, 2):
        records.begin(draft.draft_id, "killed")
    before = held.asked
    held.go_on.clear()
    try:
        with served(lambda: held, store_url=url) as client:
            wait_for(client, "two", "running")
            wait_until(lambda: held.asked == before + 2)  # "one", and beside it what accuses nobody
            time.sleep(0.1)
            assert (held.asked, records.get("two").attempts) == (before + 2, 1)
            held.go_on.set()
            for draft_id in ("one", "two", "fresh"):
                wait_for(client, draft_id, "ready")
    finally:
        held.go_on.set()
        store.close()


def test_a_stopped_service_queues_again_what_it_had_begun(held, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    held.go_on.clear()
    try:
        with served(lambda: held, store_url=url) as client:
            draft = make(client, Prefer="respond-async")
            wait_for(client, draft["draft_id"], "running")
    finally:
        held.go_on.set()
    store = open_store(url)
    left = Drafts(store).get(draft["draft_id"])
    assert (left.state, left.attempts) == ("queued", 0)
    store.close()


# --- whose ----------------------------------------------------------------------------------------------

SOMEBODY_ELSE = Principal("key:other", "other", frozenset({Role.CLINICIAN}))


def test_nobody_reads_cancels_reviews_or_exports_somebody_elses_draft(client):
    drafts, draft_id = client.app.state.service.drafts, make(client)["draft_id"]
    review = ReviewRequest(item_id="i1", decision="accept", if_version=1)
    for attempt in (
        lambda: drafts.get(draft_id, SOMEBODY_ELSE),
        lambda: drafts.cancel(draft_id, SOMEBODY_ELSE),
        lambda: drafts.review(draft_id, review, SOMEBODY_ELSE),
        lambda: drafts.finalise(draft_id, 1, SOMEBODY_ELSE),
        lambda: drafts.export(draft_id, SOMEBODY_ELSE, "csv"),
    ):
        with pytest.raises(UnknownDraftError):
            client.portal.call(attempt)
    assert client.portal.call(lambda: drafts.list(SOMEBODY_ELSE)) == []


def test_an_evaluator_reads_everybodys_drafts(client):
    drafts, draft_id = client.app.state.service.drafts, make(client)["draft_id"]
    evaluator = Principal("key:evaluator", "", frozenset({Role.EVALUATOR}))
    assert client.portal.call(lambda: drafts.get(draft_id, evaluator)).draft_id == draft_id
    assert client.portal.call(lambda: drafts.list(evaluator))[0].draft_id == draft_id


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_hook_queued_is_every_clinicians_if_the_site_says_so(held, shared):
    ehr = Principal("cds:ehr", "", frozenset())
    with served(lambda: held, cds_drafts_shared=shared) as client:
        drafts, request = client.app.state.service.drafts, DraftRequest.model_validate(BODY)
        queued = client.portal.call(lambda: drafts.submit(request, ehr, source="cds", patient_ref="p"))
        assert client.portal.call(lambda: drafts.latest_for("p", "cds:ehr", 60)).draft_id == queued.draft_id
        if shared:
            ready = wait_for(client, queued.draft_id, "ready")
            assert decide(client, ready, decision="reject", **REASON).status_code == 200
        else:
            assert client.get(f"/v1/drafts/{queued.draft_id}").status_code == 404


# --- reviewed -------------------------------------------------------------------------------------------


def test_a_review_shows_on_its_row_and_raises_the_version(client):
    draft = make(client)
    after = decide(client, draft, decision="reject", reason_text="no indication").json()
    assert after["version"] == draft["version"] + 1
    assert after["drugs"][0]["review"].items() >= {"decision": "reject", "reason_text": "no indication"}.items()
    assert [item for item in after["drugs"][1:] if "review" in item] == []
    undone = decide(client, after, decision="undo").json()
    assert "review" not in undone["drugs"][0]


def test_a_rejection_needs_a_reason(client):
    answer = decide(client, make(client), decision="reject")
    assert (answer.status_code, answer.json()["code"]) == (422, "reason_required")


def test_an_edit_is_screened_again_and_a_critical_alert_needs_a_reason(client):
    draft = make(client, {**BODY, "allergies": [{"substance": "phenytoin"}]})
    assert not [alert for alert in draft["screening"]["alerts"] if alert["check"] == "allergy"]
    assert decide(client, draft, decision="edit", edited_drug="Phenytoin Sodium").json()["code"] == "reason_required"
    edited = decide(client, draft, decision="edit", edited_drug="Phenytoin Sodium", **REASON).json()
    [alert] = [alert for alert in edited["screening"]["alerts"] if alert["check"] == "allergy"]
    assert (alert["items"], alert["drugs"]) == (["i1"], ["Phenytoin Sodium"])
    assert edited["drugs"][0]["drug"] == draft["drugs"][0]["drug"]  # the original stays beside the edit
    rejected = decide(client, edited, decision="reject", **REASON).json()
    assert not [alert for alert in rejected["screening"]["alerts"] if alert["check"] == "allergy"]


def test_an_edit_to_a_drug_of_the_list_is_refused(client):
    draft = make(client)
    answer = decide(client, draft, decision="edit", edited_drug=draft["drugs"][1]["drug"].upper())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_key_is_freed_when_the_store_that_failed_is_back(client, monkeypatch):
    records = client.app.state.service.drafts.records

    def fail(*args: Any, **kwargs: Any) -> None:
        raise StoreError("disk full")

    keys = client.app.state.service.drafts._once.keys
    with monkeypatch.context() as broken:
        broken.setattr(records, "record", fail)
        broken.setattr(keys, "release", fail)
        answer = client.post("/v1/drafts", json=BODY, headers={"Idempotency-Key": "disk"})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    for _ in range(100):
        if client.post("/v1/drafts", json=BODY, headers={"Idempotency-Key": "disk"}).status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("the key stayed taken")


def test_a_review_of_another_version_or_of_no_row_is_refused(client):
    draft = make(client)
    decide(client, draft, decision="reject", **REASON)
    assert decide(client, draft, item=1, decision="accept").json()["code"] == "version_conflict"
    answer = decide(client, {**draft, "version": 2, "drugs": [{"item_id": "i999"}]}, decision="accept")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_review_sent_twice_with_one_key_counts_once(client):
    draft = make(client)
    body = {"item_id": "i1", "decision": "reject", "if_version": 1, **REASON}
    place, key = f"/v1/drafts/{draft['draft_id']}/reviews", {"Idempotency-Key": "review"}
    first, again = (client.post(place, json=body, headers=key).json() for _ in range(2))
    assert first == again
    assert first["version"] == 2


def decided(client: TestClient, draft: dict[str, Any]) -> dict[str, Any]:
    for place in range(len(draft["drugs"])):
        draft = decide(client, draft, place, decision="reject", **REASON).json()
    return draft


def test_a_draft_is_frozen_when_all_is_decided_and_not_before(client):
    draft = make(client)
    place = f"/v1/drafts/{draft['draft_id']}/finalize"
    assert client.post(place, json={"if_version": 1}).json()["code"] == "undecided"
    draft = decided(client, draft)
    final = client.post(place, json={"if_version": draft["version"]}).json()
    assert final["state"] == "final"
    assert decide(client, final, decision="undo").json()["code"] == "finalised"
    assert client.post(place, json={"if_version": final["version"]}).json()["code"] == "finalised"
    assert client.get("/v1/drafts").json()["drafts"][0]["decided"] == len(final["drugs"])


def test_no_route_decides_about_more_than_one_drug(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["ReviewRequest"]["properties"]["item_id"]["type"] == "string"
    assert "decision" not in schemas["FinalizeRequest"]["properties"]


def test_a_site_that_keeps_no_inputs_keeps_what_the_rules_said(held):
    body = {**BODY, "current_drugs": ["ibuprofen"], "allergies": [{"substance": "ibuprofen"}]}
    with served(lambda: held, store_inputs=False) as client:
        draft = make(client, body)
        assert "facts" not in draft
        edited = decide(client, draft, decision="edit", edited_drug="ketorolac", **REASON).json()
        assert "facts" not in edited
        earlier = {alert["rule_id"] for alert in draft["screening"]["alerts"] if alert["current"]}
        kept = {alert["rule_id"] for alert in edited["screening"]["alerts"]}
        gone = {alert["rule_id"] for alert in draft["screening"]["alerts"] if alert["items"] == ["i1"]}
        assert earlier - gone <= kept
        [allergy] = [one for one in edited["screening"]["not_evaluated"] if one["check"] == "allergy"]
        assert allergy["reason"] == "input_missing"


# --- screened and exported ------------------------------------------------------------------------------


def test_screening_waits_for_no_model():
    never = threading.Event()

    def load() -> BaselineRecommender:
        never.wait(20)
        raise OSError("it never loads")

    with served(load, wait=False) as client:
        try:
            screened = client.post("/v1/screen", json={"drugs": ["warfarin", "ibuprofen", "foo"]}).json()
            assert client.get("/v1/drafts").json() == {"drafts": []}
            assert client.get("/v1/models").json()["models"][0]["state"] == "loading"
            assert client.post("/v1/icd", json={"q": "heart"}).json()["code"] == "not_ready"
        finally:
            never.set()
    assert screened["unscreened"] == ["foo"]
    assert all(set(alert["items"]) <= {"i1", "i2", "i3"} for alert in screened["alerts"])


def test_an_export_is_the_draft_and_runs_no_formula(client):
    draft = decide(client, make(client), decision="edit", edited_drug="=cmd()|x", **REASON).json()
    place = f"/v1/drafts/{draft['draft_id']}/export"
    assert client.get(place).json() == draft
    table = client.get(place, params={"format": "csv"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert "'=cmd()|x" in table.text
    bundle = client.get(place, params={"format": "fhir"}).json()
    assert bundle == {**client.get(f"/v1/drafts/{draft['draft_id']}/fhir").json(), "timestamp": bundle["timestamp"]}


# --- switched off ---------------------------------------------------------------------------------------


def test_switched_off_nothing_is_drafted_and_all_else_goes_on(held, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    with served(lambda: held, store_url=url) as on:
        earlier = make(on)
    asked = held.asked
    with served(lambda: held, store_url=url, drafting=False) as off:
        for headers in ({}, {"Prefer": "respond-async"}):
            answer = off.post("/v1/drafts", json=BODY, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "drafting_off")
        assert decide(off, earlier, decision="accept").status_code == 200
        assert off.post("/v1/screen", json={"drugs": ["warfarin", "heparin"]}).json()["alerts"]
    assert held.asked == asked
