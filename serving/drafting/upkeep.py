"""What a running service does once an hour: it forgets what has expired, and what it may keep no longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from serving.operation.logs import event
from serving.store.errors import StoreError
from serving.store.retention import ages_of_days, purge

if TYPE_CHECKING:
    from serving.settings import Settings
    from serving.store.engine import Store

EVERY_SECONDS = 3600.0


async def keep_up(settings: Settings, store: Store, every_seconds: float = EVERY_SECONDS) -> None:
    """Tidy the store again and again until cancelled; several processes may, since nothing is removed twice."""
    ages = ages_of_days(settings.keep_drafts_days, settings.keep_reasons_days, settings.keep_drafts_days)
    while True:
        try:
            removed = await run_in_threadpool(purge, store, ages, "upkeep")
            event("store_tidied", count=sum(removed.values()))
        except StoreError:
            event("store_not_tidied", level="warning")
        await asyncio.sleep(every_seconds)
