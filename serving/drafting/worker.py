"""The worker of a process: takes queued drafts from the store under a lease, makes them, and gives back what it loses.

Killed, its leases run out and another worker, or itself after a restart, takes its drafts up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from serving.drafting import reviewing
from serving.operation import metrics
from serving.operation.logs import event
from serving.problems import code_of
from serving.schemas import Content, DraftRequest
from serving.store.errors import LeaseLostError, StoreError
from serving.store.records import StoredDraft

if TYPE_CHECKING:
    from serving.drafting.drafts import DraftService
    from serving.drafting.engines import Engines
    from serving.operation.drain import Drain
    from serving.settings import Settings

AT_ONCE = 8
"""Queued drafts that one process works on at once; those of waiting clients go beside them."""
LOOK_SECONDS = 1.0
"""Between looks for drafts that another process queued, or left."""


class Worker:
    """Makes queued drafts until it is stopped."""

    def __init__(self, settings: Settings, drafts: DraftService, engines: Engines, drain: Drain) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._settings, self._drafts, self._engines, self._drain = settings, drafts, engines, drain
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._suspects = asyncio.Lock()
        self._new = asyncio.Event()
        drafts.submitted, drafts.cancelled = self._new.set, self._cancel

    async def run(self) -> None:
        """Work until cancelled; then what runs is given back for others to take up."""
        renewing = asyncio.create_task(self._renew_leases())
        try:
            while True:
                with suppress(TimeoutError):  # wait_for would swallow a cancellation that comes with a new draft
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._new.wait()
                self._new.clear()
                if self._engines.ready and self._settings.drafting and not self._drain.draining:
                    await self._take()
        finally:
            renewing.cancel()
            await self._give_back()

    async def _take(self) -> None:
        try:
            metrics.set_queue_waiting(await run_in_threadpool(self._drafts.records.waiting))
            while room := AT_ONCE - len(self._tasks):
                claim = self._drafts.records.claim
                claimed = await run_in_threadpool(claim, self.name, self._settings.lease_seconds, room)
                for stored in claimed:
                    self._tasks[stored.draft_id] = task = asyncio.create_task(self._work(stored))
                    task.add_done_callback(partial(self._done, stored.draft_id))
                if len(claimed) < room:
                    return
        except StoreError:
            event("queue_unreachable", level="warning")

    async def _work(self, stored: StoredDraft) -> None:
        records = self._drafts.records
        try:
            try:
                content = await self._attempt(stored)
            except (LeaseLostError, StoreError):
                raise
            except Exception as error:
                code = code_of(error)
                event("draft_failed", level="warning", draft_id=stored.draft_id, code=code)
                await run_in_threadpool(records.fail, stored.draft_id, self.name, code)
                return
            kept, hits = self._drafts.kept(content), reviewing.hits(content, {})
            await run_in_threadpool(records.complete, stored.draft_id, self.name, kept, hits)
        except LeaseLostError:
            event("draft_lost", draft_id=stored.draft_id)  # cancelled, or another worker was quicker
        except StoreError:
            event(
                "draft_left", level="warning", draft_id=stored.draft_id
            )  # once the lease has run out, it is made again

    async def _attempt(self, stored: StoredDraft) -> Content:
        """Make a draft; those whose worker died one after the other, so that one that kills accuses no other."""
        async with self._suspects if stored.attempts else nullcontext():
            await run_in_threadpool(self._drafts.records.begin, stored.draft_id, self.name)
            return await self._drafts.draft(DraftRequest.model_validate(stored.request), patiently=True)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            working = list(self._tasks)
            if not working:
                continue
            with suppress(StoreError):
                renew = self._drafts.records.renew
                held = await run_in_threadpool(renew, working, self.name, self._settings.lease_seconds)
                for lost in set(working) - held:
                    self._cancel(lost)

    async def _give_back(self) -> None:
        """Stop, and queue again what is not done."""
        working = list(self._tasks)
        for draft_id in working:
            self._cancel(draft_id)
        if working:
            with suppress(StoreError):
                await run_in_threadpool(self._drafts.records.give_back, working, self.name)

    def _cancel(self, draft_id: str) -> None:
        if task := self._tasks.get(draft_id):
            task.cancel()

    def _done(self, draft_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(draft_id, None)
        self._new.set()
