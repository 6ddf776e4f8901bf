"""A backup is whole, one file, and becomes a store again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from etl.errors import ConfigError
from serving.store.backup import backup, restore
from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.errors import StoreError
from serving.store.retention import purge
from tests.serving.store.conftest import Ward

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@SQLITE
def test_a_backup_made_while_drafts_are_recorded_becomes_a_store_that_verifies(ward: Ward, tmp_path: Path):
    before = [ward.record().draft_id for _ in range(3)]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            ward.record()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        made = backup(ward.store, tmp_path / "backup")
    finally:
        stop.set()
        writing.join()
    assert made.events >= 3
    assert [path.name for path in tmp_path.glob("*backup*")] == ["backup"]
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    restored = restore(tmp_path / "backup", f"sqlite:///{tmp_path / 'restored'}")
    assert restored == made
    store = open_store(f"sqlite:///{tmp_path / 'restored'}")
    assert {draft.draft_id for draft in Drafts(store).list(None, most=1000)} >= set(before)
    assert (store.secret, ward.problems(made.head)) == (ward.store.secret, ())


@SQLITE
def test_a_store_that_was_tampered_with_gives_no_backup(ward: Ward, tmp_path: Path):
    ward.record()
    with ward.store.transaction() as con:
        con.exec_driver_sql("UPDATE drafts SET content = '{}'")
    with pytest.raises(StoreError, match="draft d1 has another content"):
        backup(ward.store, tmp_path / "backup")
    assert list(tmp_path.glob("*backup*")) == []


@SQLITE
@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no database" * 100, "no SQLite database"), (None, "damaged|does not read"), (b"", "no store of rxdraft")],
)
def test_what_is_no_backup_is_refused_and_nothing_is_made(ward: Ward, tmp_path: Path, content: bytes | None, told: str):
    for _ in range(30):
        ward.record()
    backup(ward.store, tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(whole[: len(whole) // 2 // 4096 * 4096] if content is None else content)
    with pytest.raises(StoreError, match=told):
        restore(tmp_path / "backup", f"sqlite:///{tmp_path / 'restored'}")
    assert list(tmp_path.glob("*restored*")) == []


@SQLITE
def test_nothing_that_stands_is_overwritten(ward: Ward, tmp_path: Path, database_url: str):
    backup(ward.store, tmp_path / "backup")
    with pytest.raises(ConfigError, match="exists; move it away"):
        backup(ward.store, tmp_path / "backup")
    with pytest.raises(ConfigError, match="exists; move it away"):
        restore(tmp_path / "backup", database_url)
    (tmp_path / "new-wal").touch()
    with pytest.raises(ConfigError, match="new-wal exists"):
        restore(tmp_path / "backup", f"sqlite:///{tmp_path / 'new'}")
    with pytest.raises(ConfigError, match="is no file"):
        restore(tmp_path / "none", f"sqlite:///{tmp_path / 'other'}")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_left_to_its_own_tools(ward: Ward, tmp_path: Path, database_url: str):
    with pytest.raises(ConfigError, match="use pg_dump"):
        backup(ward.store, tmp_path / "backup")
    with pytest.raises(ConfigError, match="use pg_restore"):
        restore(tmp_path / "backup", database_url)


@SQLITE
def test_a_backup_of_a_purged_store_verifies(ward: Ward, tmp_path: Path):
    ward.review(ward.record(), reason_text="text")
    ward.clock.pass_(days=91)
    purge(ward.store)
    assert backup(ward.store, tmp_path / "backup").problems == ()
