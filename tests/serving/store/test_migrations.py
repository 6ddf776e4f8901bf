"""The migrations make the tables that the code means, and no others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from etl.errors import ConfigError
from serving.store import migrate
from serving.store.engine import open_store
from serving.store.errors import StoreError
from serving.store.schema import metadata
from tests.serving.store.conftest import Ward


def test_the_migrated_tables_are_those_of_the_schema(ward: Ward):
    with ward.store.reading() as con:
        context = MigrationContext.configure(con, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert migrate.revision(con) == migrate.head()


def test_checks_and_foreign_keys_hold_on_both_databases(ward: Ward):
    ward.record()
    for wrong in (
        "UPDATE drafts SET state = 'lost'",
        "UPDATE drafts SET version = 0",
        "UPDATE screening_hits SET draft_id = 'none'",
        "DELETE FROM drafts",
    ):
        with pytest.raises(Exception, match=r"(?i)constraint"), ward.store.transaction() as con:
            con.execute(text(wrong))


def test_stores_opened_at_the_same_time_migrate_once(database_url: str):
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: open_store(database_url), range(6)))
    for store in stores:
        store.check()
        store.close()
    assert len({store.secret for store in stores}) == 1


def test_an_unmigrated_store_is_told_apart_and_not_touched(database_url: str, tmp_path: Path):
    (tmp_path / "store.sqlite3").touch()
    with pytest.raises(StoreError, match="schema absent, wanted 0001; run `rxdraft store migrate`"):
        open_store(database_url, upgrade=False)
    assert (tmp_path / "store.sqlite3").stat().st_size in (0, 4096)


def test_a_store_of_a_newer_version_is_refused(ward: Ward, database_url: str):
    with ward.store.transaction() as con:
        con.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for call in (ward.store.check, lambda: open_store(database_url)):
        with pytest.raises(StoreError, match="schema 9999 is newer than this rxdraft"):
            call()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "must outlive the process"),
        ("sqlite:///:memory:", "must outlive the process"),
        ("mysql://x/y", "cannot be mysql"),
        ("no url", "cannot be read"),
        ("sqlite:////proc/nowhere/store.sqlite3", "name a file that can be written to"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_told_in_one_line(url: str, told: str):
    with pytest.raises(ConfigError, match=told):
        open_store(url)


def test_a_missing_file_is_not_made_by_a_command_that_only_reads(tmp_path: Path):
    with pytest.raises(ConfigError, match="is no file"):
        open_store(f"sqlite:///{tmp_path / 'none' / 'store.sqlite3'}", upgrade=False)
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_is_its_owners_alone(tmp_path: Path):
    store = open_store(f"sqlite:///{tmp_path / 'data' / 'store.sqlite3'}")
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "data").iterdir()} == dict.fromkeys(
        ("store.sqlite3", "store.sqlite3-wal", "store.sqlite3-shm"), "0o600"
    )
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    store.close()
