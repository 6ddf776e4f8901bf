"""Where the first key goes: to whoever looks, and into no journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.errors import ConfigError
from serving.access.keys import make_key, principal_of_key
from serving.access.principal import Role
from serving.starting.first_key import NAME, first_key, works
from serving.store.engine import open_store
from serving.store.keys import Keys


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rxdraft.sqlite3"


@pytest.fixture
def keys(url: str) -> Iterator[Keys]:
    store = open_store(url)
    yield Keys(store)
    store.close()


def test_a_terminal_is_shown_a_key_that_opens_and_no_file_holds_it(keys: Keys, url: str, tmp_path: Path) -> None:
    key = first_key(keys, url, terminal=True).rpartition(" ")[2]
    assert principal_of_key(keys, key).roles == {Role.CLINICIAN}
    assert not (tmp_path / NAME).exists()


def test_without_a_terminal_the_line_says_where_the_key_is_and_not_what(keys: Keys, url: str, tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text("an older one, for all to read")
    line = first_key(keys, url, terminal=False)
    assert "rxd_" not in line
    assert str(file) in line
    assert file.stat().st_mode & 0o777 == 0o600
    assert principal_of_key(keys, file.read_text().strip()).roles == {Role.CLINICIAN}


def test_beside_a_database_elsewhere_the_users_data_folder_keeps_the_key(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    first_key(keys, "postgresql+psycopg://rx@db.example.org/rx", terminal=False)
    assert (tmp_path / "data" / "rxdraft" / NAME).is_file()


def test_a_key_that_was_revoked_or_has_expired_works_no_longer(keys: Keys) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    made = [make_key("one", [Role.CLINICIAN], expires_at=end)[1] for end in (None, soon, soon - timedelta(days=1))]
    for key in made:
        keys.add(key)
    assert [works(key) for key in keys.all()] == [True, True, False]
    keys.revoke(made[0].key_id, "command")
    assert [works(key) for key in keys.all()] == [False, True, False]


def test_no_key_is_made_that_nobody_could_read(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="keys add"):
        first_key(keys, f"sqlite:///{tmp_path}/file/rxdraft.sqlite3", terminal=False)
    assert keys.all() == []
