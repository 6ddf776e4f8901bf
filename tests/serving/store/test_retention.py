"""Content goes when its time is over, and what is left still verifies."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from serving.store.cds import Cds
from serving.store.counters import Counters
from serving.store.errors import NotReadyError
from serving.store.idempotency import Idempotency
from serving.store.records import IdempotencyKey, NewCard, NewFeedback
from serving.store.retention import Ages, purge, sweep
from serving.store.sessions import Sessions
from tests.serving.store.conftest import Ward, content

CANARY = "CANARY-Hong-Gildong"
CARD = NewCard("card", "cds:a", "rx-draft", "info")


def test_free_text_goes_first_then_the_content_and_the_store_verifies_after_each(ward: Ward):
    draft = ward.record(patient_ref="p1")
    draft = ward.review(draft, decision="edit", edited_drug="torasemide", reason_code="other", reason_text="Mr Kim")
    final = ward.drafts.finalise(draft.draft_id, "clinician", if_version=2, content=content())
    head = ward.audit.head()

    ward.clock.pass_(days=31)
    assert purge(ward.store)["reasons"] == 1
    kept = ward.drafts.get(draft.draft_id)
    assert (kept.reviews[0].reason_text, kept.reviews[0].edited_drug, kept.content) == (None, "torasemide", content())
    assert ward.problems(head) == ()

    ward.clock.pass_(days=60)
    done = purge(ward.store)
    assert (done["drafts"], done["edits"], done["reasons"]) == (1, 1, 0)
    left = ward.drafts.get(draft.draft_id)
    assert (left.purged, left.content, left.request, left.patient_ref) == (True, None, None, None)
    assert (left.state, left.snapshot_sha256) == ("final", final.snapshot_sha256)
    assert (left.reviews[0].edited_drug, left.reviews[0].reason_code) == (None, "other")
    assert ward.problems(head) == ()
    assert sum(purge(ward.store).values()) == 0


def test_a_purge_is_noted_and_takes_only_what_is_old(ward: Ward):
    ward.record()
    ward.clock.pass_(days=91)
    young = ward.record()
    purge(ward.store, actor="timer")
    assert ward.drafts.get(young.draft_id) == young
    event = ward.audit.events()[-1]
    assert (event.action, event.actor, event.facts["counts"]["drafts"]) == ("store.purged", "timer", 1)


def test_what_has_no_age_stays_and_a_purge_that_removes_nothing_is_not_noted(ward: Ward):
    draft = ward.review(ward.record(), reason_text="Mr Kim")
    ward.clock.pass_(days=10_000)
    assert sum(purge(ward.store, Ages(None, None, None)).values()) == 0
    assert ward.drafts.get(draft.draft_id) == draft
    assert ward.audit.events()[-1].action == "draft.reviewed"
    assert purge(ward.store, Ages(None, timedelta(1), None))["reasons"] == 1


def test_a_purged_draft_takes_no_review(ward: Ward):
    draft = ward.record()
    ward.clock.pass_(days=91)
    purge(ward.store)
    with pytest.raises(NotReadyError, match="no longer kept"):
        ward.review(draft)


def test_a_draft_that_was_never_made_is_given_up_with_its_request(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    ward.clock.pass_(days=91)
    assert purge(ward.store)["expired_drafts"] == 1
    left = ward.drafts.get(draft_id)
    assert (left.state, left.failure, left.request) == ("failed", "expired", None)
    assert ward.problems() == ()


def test_more_rows_than_a_block_are_all_purged(ward: Ward, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.store.retention._BLOCK", 2)
    for _ in range(5):
        ward.review(ward.record(), reason_text="text")
    Cds(ward.store).add_cards([NewCard(f"card{n}", "cds:a", "rx", "info") for n in range(5)])
    ward.clock.pass_(days=91)
    done = purge(ward.store)
    assert (done["drafts"], done["reasons"], done["cards"]) == (5, 5, 5)
    assert ward.problems() == ()


def test_cards_and_comments_have_ages_of_their_own(ward: Ward):
    cds = Cds(ward.store)
    cds.add_cards([CARD])
    feedback = NewFeedback("card", "cds:a", "rx-draft", "overridden", "2026-11-21T01:00:00Z", comment="Mr Kim")
    assert cds.add_feedback([feedback]) == (1, 0)
    ages = Ages(reasons=timedelta(days=1), cds=timedelta(days=2))
    ward.clock.pass_(days=1, seconds=1)
    done = purge(ward.store, ages)
    assert (done["comments"], done["cards"]) == (1, 0)
    ward.clock.pass_(days=1)
    assert purge(ward.store, ages)["cards"] == 1
    assert cds.add_feedback([feedback]) == (0, 1)


def test_what_has_expired_is_swept_and_what_has_not_stays(ward: Ward):
    key, now = IdempotencyKey("clinician", "k", "0" * 64), ward.clock.time
    Idempotency(ward.store).begin(key)
    Sessions(ward.store).add("a" * 64, {"id": "x"}, "c" * 64, now + timedelta(hours=1))
    Cds(ward.store).use_jti("iss", "jti", now + timedelta(minutes=10))
    Counters(ward.store).hit("bucket", 2, 60)
    assert set(sweep(ward.store).values()) == {0}
    ward.clock.pass_(hours=1, seconds=1)
    assert sweep(ward.store) == {"idempotency": 0, "sessions": 1, "used_tokens": 1, "counters": 1}
    ward.clock.pass_(hours=23)
    assert sweep(ward.store)["idempotency"] == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_purged_content_is_nowhere_in_the_file_any_more(ward: Ward, tmp_path: Path):
    draft = ward.drafts.record(ward.new(content={**content(), "text": CANARY * 5000}))
    ward.review(draft, reason_text=CANARY)
    files = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: E731
    assert CANARY.encode() in files()
    ward.clock.pass_(days=91)
    purge(ward.store)
    assert CANARY.encode() not in files()
