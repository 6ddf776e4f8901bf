"""Whatever is done in whatever order: nothing acknowledged is lost or doubled, and the chain verifies.

A model beside the store keeps what was acknowledged; processes die between the steps and open the store again.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.errors import KeyRunningError, RecordError
from serving.store.records import Hit, IdempotencyKey, NewDraft, NewReview, StoredDraft
from serving.store.retention import Ages, purge
from serving.store.verification import verify
from tests.serving.store.conftest import Clock

TEXT = st.text(max_size=20)
ITEMS = st.sampled_from(["i1", "i2", "i3"])
CONTENTS = st.dictionaries(TEXT, st.none() | st.booleans() | TEXT | st.floats(allow_nan=False, allow_infinity=False))
HITS = st.lists(st.builds(Hit, st.sampled_from("abc"), st.just("1"), st.just("info"), st.tuples(ITEMS), st.booleans()))
WORKERS = st.sampled_from(["w1", "w2"])


class History(RuleBasedStateMachine):
    """Everything a store is asked to do, in any order."""

    drafts = Bundle("drafts")
    claimed = Bundle("claimed")
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.known: dict[str, StoredDraft] = {}
        self.open()

    def open(self) -> None:
        """Be a process that starts."""
        self.store = open_store(self.url, now=self.clock)
        self.api = Drafts(self.store)

    def teardown(self) -> None:
        """See that the chain is whole at the end."""
        assert verify(self.store).problems == ()
        self.store.close()

    def acknowledge(self, stored: StoredDraft) -> str:
        """Keep what an answer said."""
        before = self.known.get(stored.draft_id)
        assert before is None or stored.version > before.version
        self.known[stored.draft_id] = stored
        return stored.draft_id

    @rule(target=drafts, content=CONTENTS, hits=HITS, key=st.integers(0, 3))
    def record(self, content, hits, key):
        draft_id, key = f"d{len(self.known)}", IdempotencyKey("o", f"{key}", "0")
        try:
            new = NewDraft(draft_id, "o", "api", {}, content, tuple(hits))
            return self.acknowledge(self.api.record(new, idempotency=key))
        except KeyRunningError:  # a call with this key made one before
            assert self.api.get(draft_id) is None
            return multiple()

    @rule(target=drafts, request=CONTENTS)
    def submit(self, request):
        return self.acknowledge(self.api.submit(NewDraft(f"d{len(self.known)}", "o", "api", request)))

    @rule(target=claimed, worker=WORKERS, most=st.integers(1, 3))
    def claim(self, worker, most):
        taken = self.api.claim(worker, 60, most)
        for draft in taken:
            self.known[draft.draft_id] = draft
        self.known |= {i: self.api.get(i) for i, old in self.known.items() if old.state in ("queued", "running")}
        return multiple(*((draft.draft_id, worker) for draft in taken))

    @rule(claim=consumes(claimed), content=CONTENTS, hits=HITS, fails=st.booleans())
    def complete(self, claim, content, hits, fails):
        draft_id, worker = claim
        end = (lambda: self.api.fail(draft_id, worker, "late")) if fails else None
        self.attempt(end or (lambda: self.api.complete(draft_id, worker, content, hits)), draft_id)

    @rule(draft_id=drafts)
    def cancel(self, draft_id):
        stored = self.api.cancel(draft_id, "o")
        if stored != self.known[draft_id]:
            self.acknowledge(stored)

    @rule(
        draft_id=drafts,
        item=ITEMS,
        decision=st.sampled_from(["accept", "edit", "reject", "undo"]),
        text=st.none() | TEXT,
        stale=st.integers(0, 1),
        content=CONTENTS,
        hits=HITS,
    )
    def review(self, draft_id, item, decision, text, stale, content, hits):
        new = NewReview(item, decision, "o", edited_drug=text, reason_text=text)
        version = self.known[draft_id].version - stale
        self.attempt(
            lambda: self.api.review(draft_id, new, if_version=version, content=content, hits=hits),
            draft_id,
            bool(stale),
        )

    @rule(draft_id=drafts, content=CONTENTS)
    def finalise(self, draft_id, content):
        self.attempt(lambda: self.api.finalise(draft_id, "o", if_version=None, content=content), draft_id)

    @rule(days=st.integers(0, 3))
    def purge(self, days):
        self.clock.pass_(days=days)
        purge(self.store, Ages(drafts=timedelta(days=2), reasons=timedelta(days=1)))
        for draft_id, before in self.known.items():
            after = self.known[draft_id] = self.api.get(draft_id)
            assert after.version >= before.version
            assert [review.review_id for review in after.reviews] == [review.review_id for review in before.reviews]

    @rule()
    def die_and_start_again(self):
        self.store.close()
        self.open()

    def attempt(self, call, draft_id: str, must_fail: bool = False) -> None:
        """Acknowledge what a call returns; what it refuses must have changed nothing."""
        try:
            stored = call()
        except RecordError:
            return
        assert not must_fail
        assert stored.draft_id == draft_id
        self.acknowledge(stored)

    @invariant()
    def everything_acknowledged_stands_once_and_as_it_was(self):
        stored = {draft.draft_id: draft for draft in self.api.list(None, most=1000)}
        assert stored == self.known


class Histories:
    """Machines that each begin on an empty database."""

    def __init__(self, new_url) -> None:
        self.new_url = new_url

    def run(self, **chosen) -> None:
        """Run them."""
        new_url = self.new_url

        class OnEmpty(History):
            @cached_property
            def url(self):
                return new_url()

        chosen = settings(stateful_step_count=25, deadline=None, **chosen)
        run_state_machine_as_test(OnEmpty, settings=chosen)


@pytest.fixture
def on_sqlite() -> Iterator[Histories]:
    """In memory where the machine has such a folder: thousands of commits would wait for a disk."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        names = itertools.count()
        yield Histories(lambda: f"sqlite:///{folder}/{next(names)}")


def test_any_history_on_sqlite(on_sqlite: Histories):
    on_sqlite.run(max_examples=15)


def test_any_history_on_postgresql(postgres):
    Histories(postgres.empty_database).run(max_examples=3)


@pytest.mark.parametrize("broken", ["version", "trail"])
def test_the_history_would_notice(monkeypatch: pytest.MonkeyPatch, on_sqlite: Histories, broken: str):
    if broken == "version":
        monkeypatch.setattr("serving.store.drafts._reviewable", _any_version)
    else:
        monkeypatch.setattr("serving.store.queue.Queue._recorded", lambda *_: None)
    with pytest.raises(BaseException):  # noqa: B017
        on_sqlite.run(max_examples=100, phases=[Phase.generate], database=None)


def _any_version(con, draft_id, if_version):
    from serving.store import draft_rows

    return draft_rows.lock(con, draft_id)
