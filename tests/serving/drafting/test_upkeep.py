"""A running service keeps its store tidy by itself, as its settings say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.drafting.upkeep import keep_up
from serving.settings import Settings
from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.errors import StoreError
from serving.store.idempotency import Idempotency
from serving.store.records import IdempotencyKey, NewDraft

KEY = IdempotencyKey("o", "key", "0" * 64)


@pytest.mark.parametrize(("days", "kept"), [(None, True), (31, True), (29, False)])
def test_what_the_settings_let_go_is_gone_and_the_rest_stays(tmp_path: Path, days: int | None, kept: bool):
    now = datetime.now(UTC)
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}", now=lambda: now)
    Drafts(store).record(NewDraft("d", "o", "api", {}, {"drugs": []}), idempotency=KEY)
    now += timedelta(days=30)
    asyncio.run(_for_a_moment(keep_up(Settings(keep_drafts_days=days), store)))
    assert (Drafts(store).get("d").content is not None) is kept
    assert Idempotency(store).find(KEY) is None


def test_a_store_that_fails_is_tidied_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, calls = open_store(f"sqlite:///{tmp_path / 'store.sqlite3'}"), []

    def fails_once(*given: object) -> dict[str, int]:
        calls.append(given)
        if len(calls) == 1:
            raise StoreError("the disk is full")
        return {}

    monkeypatch.setattr("serving.drafting.upkeep.purge", fails_once)
    asyncio.run(_for_a_moment(keep_up(Settings(), store, every_seconds=0.01)))
    assert len(calls) > 1


async def _for_a_moment(work: object) -> None:
    try:
        await asyncio.wait_for(work, 0.5)  # type: ignore[arg-type]
    except TimeoutError:
        return
