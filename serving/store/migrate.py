"""Bring the schema up to date with the migrations that the package ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from serving.store.dialects import SCHEMA
from serving.store.errors import StoreError

_LOCK = 0x7278646D  # "rxdm": PostgreSQL's advisory lock of migrating


def upgrade(con: Connection, name: str) -> None:
    """Migrate to the newest schema in the caller's transaction; processes that start together wait for the first.

    Raises:
        StoreError: the store's schema is newer than this package.
    """
    if con.dialect.name == "postgresql":
        con.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        con.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    found = revision(con)
    _refuse_newer(found, name)
    if found != head():
        config = _config()
        config.attributes["connection"] = con
        command.upgrade(config, "head")


def check(con: Connection, name: str) -> None:
    """See that the schema is the newest one.

    Raises:
        StoreError: it is older, newer, or there is none.
    """
    found = revision(con)
    _refuse_newer(found, name)
    if found != head():
        raise StoreError(f"store {name}: schema {found or 'absent'}, wanted {head()}; run `rxdraft store migrate`")


def revision(con: Connection) -> str | None:
    """Return the schema's revision, None where there is no schema of ours."""
    return MigrationContext.configure(con).get_current_revision()


@cache
def head() -> str:
    """Return the newest revision that the package ships."""
    return _scripts().get_heads()[0]


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())


def _refuse_newer(found: str | None, name: str) -> None:
    if found is not None and found not in _known():
        raise StoreError(f"store {name}: schema {found} is newer than this rxdraft ({head()}); install that version")


def _config() -> Config:
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
