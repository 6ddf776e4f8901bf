"""Queued drafts are made once each, in their order, whoever dies."""

from __future__ import annotations

import pytest

from serving.store.errors import LeaseLostError
from serving.store.queue import MOST_ATTEMPTS
from tests.serving.store.conftest import HIT, Ward, content


def test_drafts_are_claimed_in_the_order_they_came_and_by_one_worker_each(ward: Ward):
    queued = [ward.drafts.submit(ward.new()).draft_id for _ in range(3)]
    assert (ward.drafts.waiting(), ward.drafts.ahead_of(queued[2])) == (3, 2)
    first = [draft.draft_id for draft in ward.drafts.claim("w1", 60, 2)]
    second = [draft.draft_id for draft in ward.drafts.claim("w2", 60, 2)]
    assert (first, second) == (queued[:2], queued[2:])
    assert (ward.drafts.waiting(), ward.drafts.ahead_of(queued[2])) == (0, 2)
    done = ward.drafts.complete(queued[0], "w1", content(), [HIT])
    assert (done.state, done.version, done.content, ward.drafts.ahead_of(queued[2])) == ("ready", 2, content(), 1)


def test_a_dead_workers_draft_is_taken_up_when_its_lease_has_run_out(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    ward.drafts.claim("dead", 60, 1)
    ward.clock.pass_(seconds=50)
    assert ward.drafts.renew([draft_id, "other"], "dead", 60) == {draft_id}
    ward.clock.pass_(seconds=50)
    assert ward.drafts.claim("w2", 60, 1) == []
    ward.clock.pass_(seconds=11)
    [taken] = ward.drafts.claim("w2", 60, 1)
    assert taken.draft_id == draft_id
    assert ward.drafts.renew([draft_id], "dead", 60) == set()
    with pytest.raises(LeaseLostError):
        ward.drafts.complete(draft_id, "dead", {"from": "dead"})
    assert ward.drafts.complete(draft_id, "w2", content()).content == content()
    assert ward.problems() == ()


def test_a_draft_that_kills_its_workers_is_given_up(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    for attempt in range(MOST_ATTEMPTS):
        [claimed] = ward.drafts.claim(f"w{attempt}", 60, 1)
        assert claimed.attempts == attempt
        ward.drafts.begin(draft_id, f"w{attempt}")
        ward.clock.pass_(seconds=61)
    assert ward.drafts.claim("last", 60, 1) == []
    given_up = ward.drafts.get(draft_id)
    assert (given_up.state, given_up.failure) == ("failed", "abandoned")


def test_a_draft_that_was_claimed_and_not_begun_is_never_given_up(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    for kill in range(20):
        [claimed] = ward.drafts.claim(f"w{kill}", 60, 8)
        assert (claimed.draft_id, claimed.attempts) == (draft_id, 0)
        ward.clock.pass_(seconds=61)


def test_what_a_worker_gives_back_is_taken_up_at_once_and_is_held_against_nobody(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    ward.drafts.claim("stopped", 60, 1)
    ward.drafts.begin(draft_id, "stopped")
    ward.drafts.give_back([draft_id], "another")
    assert ward.drafts.claim("next", 60, 1) == []
    ward.drafts.give_back([draft_id], "stopped")
    [claimed] = ward.drafts.claim("next", 60, 1)
    assert (claimed.draft_id, claimed.attempts) == (draft_id, 0)
    with pytest.raises(LeaseLostError):
        ward.drafts.begin(draft_id, "stopped")


def test_a_cancelled_draft_is_not_made_though_its_worker_ends_later(ward: Ward):
    running, queued = (ward.drafts.submit(ward.new()).draft_id for _ in range(2))
    ward.drafts.claim("w", 60, 1)
    for draft_id in (running, queued):
        assert ward.drafts.cancel(draft_id, "clinician").state == "cancelled"
    assert ward.drafts.renew([running], "w", 60) == set()
    with pytest.raises(LeaseLostError):
        ward.drafts.complete(running, "w", content())
    assert ward.drafts.claim("w", 60, 9) == []
    assert ward.drafts.get(running).content is None


def test_cancelling_what_has_ended_changes_nothing(ward: Ward):
    draft = ward.record()
    assert ward.drafts.cancel(draft.draft_id, "clinician") == draft
    assert len(ward.audit.events()) == 1


def test_a_failed_draft_says_why(ward: Ward):
    draft_id = ward.drafts.submit(ward.new()).draft_id
    ward.drafts.claim("w", 60, 1)
    failed = ward.drafts.fail(draft_id, "w", "late")
    assert (failed.state, failed.failure, failed.version) == ("failed", "late", 2)
    assert ward.audit.events(draft_id)[-1].facts["failure"] == "late"
