"""A draft as its reviews leave it, apart from store and HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serving.drafting.content import screened
from serving.drafting.reviewing import reviewed
from serving.schemas import Content, DraftedDrug, DraftRequest, ReviewRequest
from serving.screening import Facts, Screener
from serving.store.records import StoredDraft

ASKED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("hours_later", "evaluated"), [(0, True), (3.9, True), (4.1, False)])
def test_a_laboratory_value_grows_older_between_draft_and_review(hours_later: float, evaluated: bool):
    request = {
        "diagnoses": [{"icd_code": "I50.9", "icd_version": 10}],
        "potassium_mmol_l": {"value": 6.1, "hours_ago": 20.0},
    }
    screener = Screener()
    content = Content(
        drugs=[DraftedDrug(item_id="i1", rank=1, drug="potassium chloride")],
        screening=screened(screener, {"i1": "potassium chloride"}, Facts()),
    )
    stored = StoredDraft(
        draft_id="d",
        owner="o",
        source="api",
        state="ready",
        version=1,
        created_at=ASKED,
        request=DraftRequest.model_validate(request).model_dump(mode="json"),
        content=content.model_dump(mode="json"),
        failure=None,
        patient_ref=None,
        reviews=(),
        snapshot_sha256=None,
    )
    review = ReviewRequest(item_id="i1", decision="accept", if_version=1, reason_code="risk-benefit-ratio")
    after, _ = reviewed(stored, review, screener, ASKED + timedelta(hours=hours_later))
    assert ("potassium" in after["screening"]["evaluated"]) is evaluated
