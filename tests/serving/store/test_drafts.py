"""What is recorded is there, reviewed once, and final when it is final; on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from serving.store.canonical import canonical, digest
from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.errors import FinalisedError, NotReadyError, UnknownDraftError, VersionConflictError
from serving.store.records import Hit, NewReview
from tests.serving.store.conftest import HIT, Ward, content


def test_a_draft_comes_back_as_it_was_recorded_to_another_process_of_the_same_store(ward: Ward, database_url: str):
    stored = ward.record(patient_ref="p1")
    assert (stored.state, stored.version, stored.created_at) == ("ready", 1, ward.clock.time)
    assert stored.content == content()
    other = open_store(database_url)
    assert Drafts(other).get(stored.draft_id) == stored
    other.close()


def test_numbers_and_any_text_survive_unchanged(ward: Ward):
    odd = {**content(), "floats": [0.1, 1.0, 1e-9, 12345678901234567890], "text": "NUL \0, surrogate \ud800, 한글"}
    stored = ward.drafts.record(ward.new(content=odd))
    assert canonical(ward.drafts.get(stored.draft_id).content) == canonical(odd)
    reviewed = ward.drafts.review(
        stored.draft_id,
        NewReview("i1", "edit", "c", edited_drug="\0", reason_text="' -- \ud800"),
        if_version=1,
        content=odd,
    )
    assert (reviewed.reviews[0].edited_drug, reviewed.reviews[0].reason_text) == ("\0", "' -- \ud800")
    assert ward.problems() == ()


@pytest.mark.parametrize("draft_id", ["none", "", "\0", "\ud800", "'; DROP TABLE drafts; --", "x" * 100_000])
def test_an_id_that_nobody_gave_finds_nothing(ward: Ward, draft_id: str):
    ward.record()
    assert ward.drafts.get(draft_id) is None
    assert ward.drafts.list("clinician", before=draft_id) == []
    with pytest.raises(UnknownDraftError):
        ward.drafts.cancel(draft_id, "clinician")


def test_a_list_holds_the_owners_drafts_only_and_goes_on_where_the_page_before_ended(ward: Ward):
    own = [ward.record().draft_id for _ in range(5)]
    other = ward.record(owner="other").draft_id
    pages = [ward.drafts.list("clinician", most=3)]
    pages.append(ward.drafts.list("clinician", before=pages[0][-1].draft_id, most=3))
    assert [draft.draft_id for page in pages for draft in page] == own[::-1]
    assert [draft.draft_id for draft in ward.drafts.list(None)] == [other, *own[::-1]]


def test_the_latest_draft_of_a_patient_is_the_newest_that_is_not_too_old_and_not_given_up(ward: Ward):
    ward.record(patient_ref="p1", owner="cds:a")
    ward.clock.pass_(minutes=5)
    newest = ward.record(patient_ref="p1", owner="cds:a")
    ward.record(patient_ref="p2", owner="cds:a")
    ward.record(patient_ref="p1", owner="cds:b")
    given_up = ward.drafts.submit(ward.new(owner="cds:a", patient_ref="p1"))
    ward.drafts.cancel(given_up.draft_id, "cds:a")
    assert ward.drafts.latest_for("p1", "cds:a", 60).draft_id == newest.draft_id
    ward.clock.pass_(minutes=2)
    assert ward.drafts.latest_for("p1", "cds:a", 60) is None


def test_the_last_review_of_a_row_counts_and_undo_takes_it_back(ward: Ward):
    draft = ward.record()
    draft = ward.review(draft, decision="reject", reason_code="patient-refuses", reason_text="no")
    draft = ward.review(draft, decision="edit", edited_drug="torasemide")
    draft = ward.review(draft, item_id="i2")
    assert {i: r.decision for i, r in draft.decisions().items()} == {"i1": "edit", "i2": "accept"}
    draft = ward.review(draft, decision="undo")
    assert list(draft.decisions()) == ["i2"]
    assert [review.version for review in draft.reviews] == [2, 3, 4, 5]
    assert draft.content == content(4)


def test_a_review_of_an_older_version_is_refused_and_changes_nothing(ward: Ward):
    seen = ward.record()
    ward.review(seen)
    with pytest.raises(VersionConflictError, match="version 2, not 1"):
        ward.review(seen, item_id="i2")
    stored = ward.drafts.get(seen.draft_id)
    assert (stored.version, len(stored.reviews)) == (2, 1)


def test_a_final_draft_is_frozen_under_the_digest_of_what_it_says(ward: Ward):
    draft = ward.review(ward.record())
    final = ward.drafts.finalise(draft.draft_id, "clinician", if_version=2, content={**content(), "final": True})
    assert (final.state, final.version) == ("final", 3)
    assert final.snapshot_sha256 == digest(json.loads(json.dumps(final.content)))
    for call in (lambda: ward.review(final), lambda: ward.drafts.finalise("d1", "c", if_version=3, content={})):
        with pytest.raises(FinalisedError):
            call()
    assert ward.drafts.get("d1") == final


@pytest.mark.parametrize("end", ["queued", "cancelled", "unknown"])
def test_a_draft_without_a_list_takes_no_review(ward: Ward, end: str):
    draft = ward.drafts.submit(ward.new())
    if end == "cancelled":
        draft = ward.drafts.cancel(draft.draft_id, "clinician")
    wrong = UnknownDraftError if end == "unknown" else NotReadyError
    with pytest.raises(wrong):
        ward.drafts.review(
            "none" if end == "unknown" else draft.draft_id,
            NewReview("i1", "accept", "c"),
            if_version=None,
            content=content(),
        )


def test_a_rules_hit_keeps_the_versions_it_fired_in_and_whether_it_was_overridden(ward: Ward):
    draft = ward.record()
    overridden = Hit("onc-3", "1", "critical", ("i1", "i2"), overridden=True)
    review = NewReview("i1", "accept", "clinician", reason_code="risk-benefit-ratio")
    ward.drafts.review(
        draft.draft_id, review, if_version=1, content=content(), hits=[overridden, Hit("dup", "2", "warning")]
    )
    ward.review(ward.drafts.get(draft.draft_id), item_id="i2", decision="reject")
    with ward.store.reading() as con:
        rows = con.exec_driver_sql(
            "SELECT rule_id, overridden, first_version, last_version FROM screening_hits ORDER BY 1 DESC"
        ).all()
    assert [(rule, bool(over), first, last) for rule, over, first, last in rows] == [
        ("onc-3", True, 1, 2),
        ("dup", False, 2, 2),
    ]
    assert ward.audit.events(draft.draft_id)[1].facts["rule_ids"] == ["onc-3"]


def test_who_opened_exported_and_decided_stands_in_the_trail_and_nothing_of_the_patient(ward: Ward):
    draft = ward.record(patient_ref="secret-ref")
    ward.drafts.opened(draft.draft_id, "reader")
    ward.drafts.exported(draft.draft_id, "reader", "csv")
    draft = ward.review(draft, decision="reject", edited_drug="torasemide", reason_code="other", reason_text="Mr Kim")
    ward.drafts.finalise(draft.draft_id, "clinician", if_version=None, content=content())
    events = ward.audit.events()
    assert [(event.action, event.actor) for event in events] == [
        ("draft.recorded", "clinician"),
        ("draft.opened", "reader"),
        ("draft.exported", "reader"),
        ("draft.reviewed", "clinician"),
        ("draft.finalised", "clinician"),
    ]
    assert events[0].facts["versions"] == {"model": "m1", "adapter_sha256": "a1", "rules": "2026.11.0"}
    told = repr(events)
    assert not [word for word in ("furosemide", "torasemide", "Mr Kim", "I50", "secret-ref") if word in told]


def test_a_request_that_is_not_to_be_kept_leaves_a_keyed_hash_only(ward: Ward):
    drafts = Drafts(ward.store, keep_requests=False)
    assert drafts.record(ward.new(content=content())).request is None
    queued = drafts.submit(ward.new())
    assert queued.request == {"diagnoses": ["I50"]}
    [claimed] = drafts.claim("w", 60, 1)
    assert claimed.request == queued.request
    assert drafts.complete(queued.draft_id, "w", content(), [HIT]).request is None


def test_moments_are_utc_whatever_the_zone_of_the_clock(ward: Ward):
    assert ward.record().created_at == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert ward.audit.events()[0].at.isoformat() == "2026-11-21T12:00:00+00:00"
