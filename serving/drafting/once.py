"""Calls with an Idempotency-Key: done once, and free to be sent again when they failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from serving.store.canonical import digest
from serving.store.engine import Store
from serving.store.errors import StoreError
from serving.store.idempotency import Idempotency
from serving.store.records import IdempotencyKey, StoredDraft

RELEASE_SECONDS = 1.0
"""Between attempts to free the key of a call that failed together with the store."""


class Once:
    """The calls of one process; their keys are in the store.

    Attributes:
        keys: the store's.
    """

    def __init__(self, store: Store, running_seconds: float) -> None:
        """Take the store; a call that began longer ago was killed, and its key may begin again."""
        self.keys = Idempotency(store, running_seconds=running_seconds)
        self._releasing: set[asyncio.Task[None]] = set()

    async def do(
        self,
        key: IdempotencyKey | None,
        work: Callable[[IdempotencyKey | None], Awaitable[StoredDraft]],
        again: Callable[[str], Awaitable[StoredDraft]],
    ) -> StoredDraft:
        """Do what a key asks for the first time.

        Args:
            key: None: the call came without.
            work: does it, and records the key with it.
            again: reads what the first call made, by its draft_id.
        """
        if key is None:
            return await work(None)
        made = await run_in_threadpool(self.keys.begin, key)
        if made is not None:
            return await again(made)
        try:
            return await work(key)
        except BaseException:
            self._releasing.add(task := asyncio.create_task(self._release(key)))
            task.add_done_callback(self._releasing.discard)
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task], timeout=RELEASE_SECONDS)
            raise

    async def _release(self, key: IdempotencyKey) -> None:
        """Free a key, as soon as the store takes it: until then its caller would be told that the call still runs."""
        ends = time.monotonic() + 600
        while time.monotonic() < ends:
            try:
                await run_in_threadpool(self.keys.release, key)
                return
            except StoreError:
                await asyncio.sleep(RELEASE_SECONDS)


def key_of(owner: str, key: str | None, place: str, request: Any) -> IdempotencyKey | None:
    """Return a call's key, with the digest of what it asks for.

    Args:
        owner: a `Principal.id`.
        key: as sent; None: none.
        place: method and path.
        request: the body, a pydantic model.
    """
    return None if key is None else IdempotencyKey(owner, key, digest([place, request.model_dump(mode="json")]))
