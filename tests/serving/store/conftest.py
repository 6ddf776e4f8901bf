"""A store on each kind of database, its clock in the test's hand, and the shortest calls that fill it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving.store.audit import Audit
from serving.store.drafts import Drafts
from serving.store.engine import Store, open_store
from serving.store.records import Hit, NewDraft, NewReview, StoredDraft


@dataclass
class Clock:
    """A clock that stands still."""

    time: datetime = field(default_factory=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.time

    def pass_(self, **units: float) -> None:
        """Let time pass."""
        self.time += timedelta(**units)


class Ward:
    """A store with somebody who works with it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.drafts, self.audit = Drafts(store), Audit(store)
        self._numbers = itertools.count(1)

    def new(self, owner: str = "clinician", **values: Any) -> NewDraft:
        """Return a draft to record or to queue."""
        return NewDraft(f"d{next(self._numbers)}", owner, "api", {"diagnoses": ["I50"]}, **values)

    def record(self, owner: str = "clinician", **values: Any) -> StoredDraft:
        """Record one."""
        return self.drafts.record(self.new(owner, content=content(), hits=(HIT,), **values))

    def review(self, draft: StoredDraft, item_id: str = "i1", decision: Any = "accept", **values: Any) -> StoredDraft:
        """Decide about a row of it."""
        new = NewReview(item_id, decision, "clinician", **values)
        return self.drafts.review(draft.draft_id, new, if_version=draft.version, content=content(draft.version))

    def problems(self, head: str | None = None) -> tuple[str, ...]:
        """Verify the store."""
        return self.audit.verify(head).problems


HIT = Hit("onc-3", "1", "critical", ("i1", "i2"))


def content(screened: int = 0) -> dict[str, Any]:
    """Return a draft as it is answered."""
    drugs = [{"item_id": "i1", "rank": 1, "drug": "furosemide", "probability": 0.83}]
    drugs.append({"item_id": "i2", "rank": 2, "drug": "µ-opioid", "probability": 0.5})
    return {
        "drugs": drugs,
        "versions": {"model": "m1", "adapter_sha256": "a1", "rules": "2026.11.0"},
        "screened": screened,
    }


@pytest.fixture
def clock() -> Clock:
    """The time of the store."""
    return Clock()


@pytest.fixture
def ward(database_url: str, clock: Clock) -> Iterator[Ward]:
    """An empty store."""
    store = open_store(database_url, now=clock)
    yield Ward(store, clock)
    store.close()
