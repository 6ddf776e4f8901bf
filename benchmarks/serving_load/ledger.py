"""Whether a store kept what its server promised: every acknowledged draft and review, once each, the chain whole."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from serving.store.engine import Store, open_store
from serving.store.schema import audit_events, drafts, idempotency, reviews
from serving.store.verification import verify


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands in the store beside what was promised; all but the first four must be 0.

    Attributes:
        failed: queued drafts that ended without a list, and say so.
        unfinished: queued drafts that nobody made.
        doubled_drafts: of the API, in the store without being the one of their Idempotency-Key; and keys that were
            answered with two drafts.
        doubled_reviews: second decisions about a row that was decided once.
        unaudited: acknowledged drafts without an event in the audit trail.
        damages: what `rxdraft audit verify` finds.
    """

    drafts: int
    reviews: int
    acknowledged: int
    failed: int
    lost_drafts: int
    lost_reviews: int
    lost_finals: int
    unfinished: int
    doubled_drafts: int
    doubled_reviews: int
    unaudited: int
    damages: int

    @property
    def whole(self) -> bool:
        """Whether nothing was lost or doubled."""
        counted = {"drafts", "reviews", "acknowledged", "failed"}
        return not any(value for name, value in asdict(self).items() if name not in counted)


def read_book(path: Path) -> list[dict[str, Any]]:
    """Return what a load process wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(url: str, book: list[dict[str, Any]]) -> Kept:
    """Compare a store with the books of the loads it had; the server may be running."""
    store = open_store(url, upgrade=False)
    try:
        return _check(store, [one for one in book if one["kind"] == "promised"])
    finally:
        store.close()


def wait_until_made(url: str, seconds: float) -> float | None:
    """Wait for the queue to be empty; return how long that took, None where it did not happen in time."""
    store, began = open_store(url, upgrade=False), time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            if _unfinished(store) == 0:
                return time.monotonic() - began
            time.sleep(0.25)
        return None
    finally:
        store.close()


def _check(store: Store, promised: list[dict[str, Any]]) -> Kept:
    by_kind = {kind: [one for one in promised if one["what"] == kind] for kind in ("draft", "review", "final")}
    acknowledged = {one["draft_id"] for one in promised}
    with store.reading() as con:
        states = {row.draft_id: row.state for row in con.execute(select(drafts.c.draft_id, drafts.c.state))}
        decided = Counter(con.execute(select(reviews.c.draft_id, reviews.c.item_id)).all())
        stored = {tuple(row) for row in con.execute(select(reviews.c.draft_id, reviews.c.item_id, reviews.c.version))}
        keyless = con.execute(
            select(func.count()).where(
                drafts.c.source == "api",
                drafts.c.draft_id.not_in(select(idempotency.c.draft_id).where(idempotency.c.draft_id.is_not(None))),
            )
        ).scalar_one()
        audited = set(con.execute(select(audit_events.c.object_id).distinct()).scalars())
    ids_of_key = Counter(key for key, _ in {(one["key"], one["draft_id"]) for one in by_kind["draft"]})
    told = {(one["draft_id"], one["item_id"], one["version"]) for one in by_kind["review"]}
    return Kept(
        drafts=len(states),
        reviews=len(stored),
        acknowledged=len(acknowledged),
        failed=sum(state == "failed" for state in states.values()),
        lost_drafts=len(acknowledged - set(states)),
        lost_reviews=len(told - stored),
        lost_finals=sum(states.get(one["draft_id"]) != "final" for one in by_kind["final"]),
        unfinished=_unfinished(store),
        doubled_drafts=keyless + sum(count > 1 for count in ids_of_key.values()),
        doubled_reviews=sum(count > 1 for count in decided.values()),
        unaudited=len(acknowledged - audited),
        damages=len(verify(store).problems),
    )


def _unfinished(store: Store) -> int:
    with store.reading() as con:
        return con.execute(select(func.count()).where(drafts.c.state.in_(("queued", "running")))).scalar_one()
