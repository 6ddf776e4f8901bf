"""A call that is sent again does nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.store.errors import KeyReusedError, KeyRunningError
from serving.store.idempotency import Idempotency
from serving.store.records import IdempotencyKey, NewReview
from tests.serving.store.conftest import Ward, content

KEY = IdempotencyKey("clinician", "CANARY-MRN-81723", "0" * 64)


def test_a_key_gives_the_draft_its_first_call_made(ward: Ward):
    keys = Idempotency(ward.store)
    assert keys.find(KEY) is None
    assert keys.begin(KEY) is None
    assert keys.find(KEY) == "running"
    with pytest.raises(KeyRunningError):
        keys.begin(KEY)
    made = ward.drafts.record(ward.new(content=content()), idempotency=KEY)
    assert keys.find(KEY) == keys.begin(KEY) == made.draft_id


def test_a_key_is_its_owners_and_its_bodys(ward: Ward):
    keys = Idempotency(ward.store)
    ward.drafts.submit(ward.new(), idempotency=KEY)
    assert keys.find(IdempotencyKey("other", KEY.key, KEY.body_sha256)) is None
    other_body = IdempotencyKey(KEY.owner, KEY.key, "1" * 64)
    for call in (keys.find, keys.begin):
        with pytest.raises(KeyReusedError):
            call(other_body)


def test_a_call_that_failed_releases_its_key_and_one_that_succeeded_does_not(ward: Ward):
    keys = Idempotency(ward.store)
    keys.begin(KEY)
    keys.release(KEY)
    assert keys.begin(KEY) is None
    made = ward.drafts.record(ward.new(content=content()), idempotency=KEY)
    keys.release(KEY)
    assert keys.find(KEY) == made.draft_id


def test_a_killed_calls_key_can_begin_again_and_the_late_one_cannot_double_it(ward: Ward):
    keys = Idempotency(ward.store)
    keys.begin(KEY)
    ward.clock.pass_(minutes=11)
    assert keys.find(KEY) is None
    assert keys.begin(KEY) is None
    ward.drafts.record(ward.new(content=content()), idempotency=KEY)
    with pytest.raises(KeyRunningError):
        ward.drafts.record(ward.new(content=content()), idempotency=KEY)
    assert len(ward.drafts.list(None)) == 1
    assert ward.problems() == ()


def test_of_many_calls_at_once_one_makes_a_draft(ward: Ward):
    drafts = [ward.new(content=content()) for _ in range(8)]

    def record(draft):
        try:
            return ward.drafts.record(draft, idempotency=KEY).draft_id
        except KeyRunningError:
            return None

    with ThreadPoolExecutor(8) as threads:
        made = [draft_id for draft_id in threads.map(record, drafts) if draft_id]
    assert len(made) == 1
    assert [draft.draft_id for draft in ward.drafts.list(None)] == made


def test_a_review_sent_again_is_known_by_its_key(ward: Ward):
    draft = ward.record()
    call = (draft.draft_id, NewReview("i1", "accept", "clinician"))
    ward.drafts.review(*call, if_version=1, content=content(), idempotency=KEY)
    with pytest.raises(KeyRunningError):
        ward.drafts.review(*call, if_version=None, content=content(), idempotency=KEY)
    assert Idempotency(ward.store).find(KEY) == draft.draft_id
    assert len(ward.drafts.get(draft.draft_id).reviews) == 1


def test_what_a_client_put_into_its_key_is_not_kept(ward: Ward):
    ward.drafts.submit(ward.new(), idempotency=KEY)
    with ward.store.reading() as con:
        assert "CANARY" not in repr(con.exec_driver_sql("SELECT * FROM idempotency").all())
