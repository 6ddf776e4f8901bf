"""A database that fails gives a defined error without a value in it, and the store goes on when it works again."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from serving.store import dialects
from serving.store.drafts import Drafts
from serving.store.engine import Store, open_store
from serving.store.errors import StoreError
from serving.store.records import NewDraft
from serving.store.verification import verify
from tests.serving.store.conftest import content
from tests.serving.store.postgres import NoPostgresError, server

CANARY = "CANARY-MRN-81723"


def record(store: Store, draft_id: str) -> None:
    """Record a draft whose every text is a canary."""
    Drafts(store).record(NewDraft(draft_id, CANARY, "api", {"x": CANARY * 200}, {**content(), "x": CANARY * 200}))


def recorded(store: Store) -> set[str]:
    """Return the ids of all drafts."""
    return {draft.draft_id for draft in Drafts(store).list(None, most=1000)}


def test_a_full_disk_loses_nothing_and_is_left_behind_when_there_is_room_again(tmp_path: Path):
    store, pages = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}"), [90]
    store.close()
    event.listen(store.engine, "connect", lambda con, _: con.execute(f"PRAGMA max_page_count = {pages[0]}"))
    acknowledged: set[str] = set()

    def fill() -> None:
        while True:
            record(store, f"d{len(acknowledged)}")
            acknowledged.add(f"d{len(acknowledged)}")

    for _ in range(3):  # full, and full again
        with pytest.raises(StoreError, match=r"the disk is full; free space \(SQLITE_FULL\)") as refused:
            fill()
    assert CANARY not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert len(acknowledged) > 5
    assert recorded(store) == acknowledged
    pages[0] = 100_000
    store.close()  # the limit is a connection's; the store and its lock are the same
    record(store, "later")
    assert recorded(store) == acknowledged | {"later"}
    assert verify(store).problems == ()


def test_a_store_on_a_full_disk_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    store.check()
    monkeypatch.setattr("serving.store.engine.LEAST_FREE_BYTES", 2**62)
    with pytest.raises(StoreError, match="the disk is full; free space"):
        store.check()


def test_a_lock_that_is_not_let_go_is_told_and_reading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialects, "BUSY_SECONDS", 0.3)
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    record(store, "d1")
    other = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="it is locked"):
        record(store, "d2")
    assert recorded(store) == {"d1"}
    other.execute("ROLLBACK")
    record(store, "d3")
    assert recorded(store) == {"d1", "d3"}


def test_a_writer_that_never_ends_holds_up_the_others_no_longer_than_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dialects, "BUSY_SECONDS", 0.3)
    store, inside, leave = open_store(f"sqlite:///{tmp_path / 's'}"), threading.Event(), threading.Event()

    def stall() -> None:
        with store.transaction():
            inside.set()
            leave.wait(30)

    stalled = threading.Thread(target=stall)
    stalled.start()
    assert inside.wait(30)
    with pytest.raises(StoreError, match="too many wait to write"):
        record(store, "d1")
    leave.set()
    stalled.join()
    record(store, "d2")
    assert recorded(store) == {"d2"}


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, damage: bytes):
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    record(store, "d1")
    store.close()
    (tmp_path / "store.sqlite3").write_bytes(damage)
    with pytest.raises(StoreError):
        store.check()


def test_a_mistake_of_ours_keeps_its_traceback_but_shows_no_value(tmp_path: Path):
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    record(store, "d1")
    with pytest.raises(Exception, match="UNIQUE constraint failed") as mistake:
        record(store, "d1")
    assert not isinstance(mistake.value, StoreError)
    assert CANARY not in str(mistake.value)


def test_postgresql_stopped_and_started_is_an_outage_and_no_restart_of_ours():
    try:
        lent = server()
        running = lent.__enter__()
    except NoPostgresError as error:
        pytest.skip(f"no PostgreSQL to test against: {error}")
    try:
        store = open_store(running.new_database())
        record(store, "d1")
        running.stop("immediate")
        for call in (store.check, lambda: record(store, "d2"), lambda: recorded(store)):
            with pytest.raises(
                StoreError, match=r"^store postgresql\+psycopg://rx@127.0.0.1:\d+/rx_\w+: .*see"
            ) as told:
                call()
            assert CANARY not in repr(told.value)
        with pytest.raises(StoreError):
            open_store(store.engine.url.render_as_string(hide_password=False))
        running.start()
        record(store, "d3")
        running.stop("fast")
        running.start()
        record(store, "d4")  # the pool's connections died unseen
        assert recorded(store) == {"d1", "d3", "d4"}
        assert verify(store).problems == ()
    finally:
        lent.__exit__(None, None, None)


def test_a_postgresql_session_killed_within_a_transaction_is_told_and_leaves_nothing(postgres):
    store = open_store(postgres.empty_database())

    def killed() -> None:
        with store.transaction() as con:
            con.execute(text("INSERT INTO store_facts VALUES ('half', 'done')"))
            pid = con.execute(text("SELECT pg_backend_pid()")).scalar()
            with psycopg.connect(_plain(store), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
            con.execute(text("SELECT 1"))

    with pytest.raises(StoreError, match="57P01"):
        killed()
    record(store, "d1")
    with store.reading() as con:
        assert con.execute(text("SELECT count(*) FROM store_facts WHERE name = 'half'")).scalar() == 0
    store.close()


def test_a_lock_that_postgresql_does_not_get_is_told(postgres, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialects, "BUSY_SECONDS", 1)
    store = open_store(postgres.empty_database())
    record(store, "d1")
    with psycopg.connect(_plain(store)) as other:
        other.execute("LOCK TABLE rxdraft.audit_events")
        with pytest.raises(StoreError, match="a lock was not free in time"):
            record(store, "d2")
    record(store, "d3")
    assert recorded(store) == {"d1", "d3"}
    store.close()


def _plain(store: Store) -> str:
    return make_url(store.engine.url).set(drivername="postgresql").render_as_string(hide_password=False)
