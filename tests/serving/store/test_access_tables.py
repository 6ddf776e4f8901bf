"""Keys, sessions, cards, tokens and counters, shared by all processes of a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.store.cds import Cds
from serving.store.counters import Counters
from serving.store.engine import open_store
from serving.store.keys import Keys
from serving.store.records import NewCard, NewFeedback, NewKey
from serving.store.sessions import Sessions
from tests.serving.store.conftest import Clock, Ward

KEY = NewKey("k1", "ward 3", "0" * 64, ("clinician",), ("draft", "read"))
CARD = NewCard("card", "cds:a", "rx-draft", "warning", "d1", ("onc-3",), ("s1", "s2"))
TOLD = NewFeedback("card", "cds:a", "rx-draft", "accepted", "2026-11-21T01:05:31Z", ("s1", "s2"))


def test_a_key_is_found_until_it_is_revoked_and_then_known_as_revoked(ward: Ward):
    keys = Keys(ward.store)
    added = keys.add(KEY)
    assert keys.find("k1") == added
    assert (added.roles, added.scopes, added.created_at) == (("clinician",), ("draft", "read"), ward.clock.time)
    assert (keys.revoke("k1", "admin"), keys.revoke("k1", "admin"), keys.revoke("none")) == (True, False, False)
    assert keys.find("k1").revoked_at == ward.clock.time
    assert [key.key_id for key in keys.all()] == ["k1"]
    assert [(event.action, event.actor) for event in ward.audit.events("k1")] == [
        ("key.added", "command"),
        ("key.revoked", "admin"),
    ]


def test_the_use_of_a_key_is_kept_to_the_minute(ward: Ward):
    keys = Keys(ward.store)
    keys.add(KEY)
    keys.used("k1")
    first = ward.clock.time
    ward.clock.pass_(seconds=59)
    keys.used("k1")
    assert keys.find("k1").last_used_at == first
    ward.clock.pass_(seconds=2)
    keys.used("k1")
    assert keys.find("k1").last_used_at == ward.clock.time


def test_a_session_ends_by_time_and_by_signing_out(ward: Ward):
    sessions = Sessions(ward.store)
    added = sessions.add(
        "a" * 64, {"id": "kim", "roles": ["clinician"]}, "c" * 64, ward.clock.time + timedelta(hours=8)
    )
    sessions.add("b" * 64, {"id": "lee"}, "c" * 64, ward.clock.time + timedelta(hours=8))
    assert sessions.find("a" * 64) == added
    assert (sessions.end("a" * 64), sessions.end("a" * 64), sessions.find("a" * 64)) == (True, False, None)
    ward.clock.pass_(hours=8)
    assert sessions.find("b" * 64) is None
    assert [(event.action, event.actor) for event in ward.audit.events()] == [
        ("session.began", "kim"),
        ("session.began", "lee"),
        ("session.ended", "kim"),
    ]


def test_feedback_is_stored_once_and_unknown_cards_are_counted_alike(ward: Ward):
    cds = Cds(ward.store)
    cds.add_cards([CARD])
    cds.add_cards([])
    others = [
        NewFeedback("none", "cds:a", "rx-draft", "accepted", "2026-11-21T01:05:31Z"),
        NewFeedback("card", "cds:b", "rx-draft", "accepted", "2026-11-21T01:05:31Z"),
        NewFeedback("card", "cds:a", "rx-sign", "accepted", "2026-11-21T01:05:31Z"),
    ]
    assert cds.add_feedback([TOLD, *others]) == (1, 3)
    assert cds.add_feedback([TOLD]) == (1, 0)
    later = NewFeedback(
        "card", "cds:a", "rx-draft", "overridden", "2026-11-21T02:00:00Z", (), "policy-contradicts", "\0"
    )
    assert cds.add_feedback([later]) == (1, 0)
    with ward.store.reading() as con:
        assert con.exec_driver_sql("SELECT count(*) FROM cds_feedback").scalar() == 3
    assert [event.action for event in ward.audit.events("card")] == ["card.shown", "card.accepted", "card.overridden"]


def test_a_token_is_used_once_by_whichever_process_is_first(ward: Ward, database_url: str):
    other = open_store(database_url, now=ward.clock)
    expires = ward.clock.time + timedelta(minutes=10)
    with ThreadPoolExecutor(8) as threads:
        used = list(
            threads.map(lambda n: Cds(other if n % 2 else ward.store).use_jti("iss", "jti", expires), range(16))
        )
    assert used.count(True) == 1
    assert Cds(ward.store).use_jti("is", "sjti", expires)  # no other way to cut the two is the same
    other.close()


def test_a_bucket_lets_its_number_through_at_once_and_then_one_after_another(ward: Ward):
    counters = Counters(ward.store)
    assert [counters.hit("kim", 3, 60) for _ in range(3)] == [None] * 3
    wait = counters.hit("kim", 3, 60)
    assert wait == pytest.approx(20)
    assert counters.hit("lee", 3, 60) is None
    ward.clock.pass_(seconds=wait - 0.1)
    assert counters.hit("kim", 3, 60) == pytest.approx(0.1)
    ward.clock.pass_(seconds=0.2)
    assert (counters.hit("kim", 3, 60), counters.hit("kim", 3, 60) is None) == (None, False)


def test_processes_count_into_one_bucket(ward: Ward, database_url: str):
    other = open_store(database_url, now=ward.clock)
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(lambda n: Counters(other if n % 2 else ward.store).hit("kim", 5, 60), range(20)))
    assert waits.count(None) == 5
    assert all(wait is None or wait > 0 for wait in waits)
    other.close()


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory):
    """Counters that every example uses with another bucket."""
    clock = Clock()
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('counters') / 'store'}", now=clock)
    return Counters(store), clock, iter(range(10**9))


@settings(max_examples=30)
@given(most=st.integers(1, 6), pauses=st.lists(st.floats(0, 90), max_size=15))
def test_nobody_gets_more_through_than_the_limit_and_whoever_waits_as_told_gets_through(counted, most, pauses):
    counters, clock, numbers = counted
    bucket, seconds, passed = f"b{next(numbers)}", 60, []
    for pause in pauses:
        clock.pass_(seconds=pause)
        if (wait := counters.hit(bucket, most, seconds)) is None:
            passed.append(clock.time.timestamp())
        else:
            clock.pass_(seconds=wait + 1e-3)
            assert counters.hit(bucket, most, seconds) is None
            passed.append(clock.time.timestamp())
    for first, start in enumerate(passed):
        within = [moment for moment in passed[first:] if moment <= start + seconds]
        assert len(within) <= 2 * most + 1
