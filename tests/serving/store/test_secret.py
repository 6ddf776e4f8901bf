"""Ids are hashed under one secret a store, given or made."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigError
from serving.store.engine import open_store
from serving.store.location import store_url

GIVEN = "correct horse battery staple, forty random characters"


@pytest.fixture(autouse=True)
def _no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RXDRAFT_SECRET", raising=False)


def test_a_made_secret_is_kept_and_another_stores_is_another(tmp_path: Path):
    url, other = (f"sqlite:///{tmp_path / name}" for name in ("one", "two"))
    hashed = open_store(url).keyed("patient 1")
    assert open_store(url).keyed("patient 1") == hashed
    assert open_store(other).keyed("patient 1") != hashed
    assert len(open_store(url).secret) == 32


def test_a_given_secret_stays_out_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RXDRAFT_SECRET", GIVEN)
    store = open_store(f"sqlite:///{tmp_path / 'store'}")
    secret = store.secret.hex()
    store.close()
    [written] = [path.read_bytes() for path in tmp_path.iterdir()]
    assert GIVEN.encode() not in written
    assert secret.encode() not in written


@pytest.mark.parametrize("later", [None, GIVEN[::-1]])
def test_a_store_is_not_opened_under_another_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str | None):
    url = f"sqlite:///{tmp_path / 'store'}"
    monkeypatch.setenv("RXDRAFT_SECRET", GIVEN)
    open_store(url)
    monkeypatch.setenv("RXDRAFT_SECRET", later or "")
    for upgrade in (True, False):
        with pytest.raises(ConfigError, match="this store was made with"):
            open_store(url, upgrade=upgrade)


def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RXDRAFT_SECRET", "short")
    with pytest.raises(ConfigError, match="5 characters, wanted at least 32"):
        open_store(f"sqlite:///{tmp_path / 'store'}")


def test_a_surrogate_can_be_hashed(tmp_path: Path):
    assert len(open_store(f"sqlite:///{tmp_path / 'store'}").keyed("\ud800")) == 64


def test_the_store_is_where_it_is_named_else_in_the_data_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RXDRAFT_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert store_url() == "sqlite:////data/rxdraft/rxdraft.sqlite3"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/home/kim")
    assert store_url() == "sqlite:////home/kim/.local/share/rxdraft/rxdraft.sqlite3"
    monkeypatch.setenv("RXDRAFT_STORE", "postgres://rx@db/rx")
    assert store_url() == "postgresql+psycopg://rx@db/rx"
    assert store_url("sqlite:////srv/rx") == "sqlite:////srv/rx"
