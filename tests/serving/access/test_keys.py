"""API keys: what is kept of them, and every way in which one does not hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from serving.access.keys import make_key, sha256
from serving.access.principal import Role
from serving.store.errors import StoreError
from serving.store.keys import Keys

TOMORROW = datetime.now(UTC) + timedelta(days=1)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def status(client, *headers: tuple[str, str]) -> int:
    answer = client.get("/search", headers=list(headers))
    assert answer.status_code != 401 or answer.json()["code"] == "unauthenticated"
    return answer.status_code


def with_key(client, key: str) -> int:
    return status(client, ("Authorization", f"Bearer {key}"))


def test_a_key_is_shown_once_and_never_kept(store):
    key, kept = make_key("a ward", [Role.CLINICIAN])
    prefix, key_id, secret = key.split("_")
    assert (prefix, key_id) == ("rxd", kept.key_id)
    assert len(bytes.fromhex(secret)) == 32
    assert kept.secret_sha256 == sha256(secret)
    Keys(store).add(kept)
    with store.reading() as con:
        tables = con.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        assert not any(secret in str(row) for table in tables for row in con.execute(text(f"SELECT * FROM {table}")))


def test_two_keys_share_nothing():
    assert len({part for _ in range(20) for part in make_key("x", [Role.ADMIN])[0].split("_")[1:]}) == 40


def test_a_key_that_expires_tomorrow_works_and_one_of_yesterday_does_not(client, new_key):
    assert with_key(client, new_key(expires_at=TOMORROW)) == 200
    assert with_key(client, new_key(expires_at=YESTERDAY)) == 401


def test_a_revoked_key_stops_at_once(client, new_key, store):
    key = new_key()
    assert with_key(client, key) == 200
    Keys(store).revoke(key.split("_")[1])
    assert with_key(client, key) == 401


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda key: "rxd_" + "0" * 12 + key[16:],
        lambda key: key.split("_")[1],
        lambda key: "rxd_",
        lambda key: "rxd__",
        lambda key: key.replace("_", "' OR 1=1 --", 1),
    ],
)
def test_a_key_that_is_not_quite_one_is_refused(client, new_key, spoil):
    assert with_key(client, spoil(new_key())) == 401


def test_the_secret_of_another_key_is_refused(client, new_key):
    mine, other = new_key(), new_key()
    assert with_key(client, "_".join([*mine.split("_")[:2], other.split("_")[2]])) == 401


def test_only_one_authorization_header_is_read_and_it_must_be_bearer(client, new_key):
    key = new_key()
    assert status(client, ("Authorization", f"bearer {key}")) == 200
    assert status(client, ("Authorization", f"Basic {key}")) == 401
    assert status(client, ("Authorization", key)) == 401
    assert status(client, ("Authorization", "Bearer ")) == 401
    assert status(client, ("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")) == 401
    assert client.get(f"/search?key={key}&access_token={key}").status_code == 401


def test_a_disk_that_is_full_keeps_no_reader_out(client, new_key, monkeypatch):
    def full(self, key_id: str) -> None:
        raise StoreError("full")

    monkeypatch.setattr(Keys, "used", full)
    assert with_key(client, new_key()) == 200
