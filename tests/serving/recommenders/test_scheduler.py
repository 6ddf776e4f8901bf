"""The scheduler: requests from many threads get what they would get alone, and nobody waits for nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError
from serving.decoding.decoder import Ask
from serving.recommendation import BusyError, LateError
from serving.recommenders.lists import Recommender, load_recommenders
from serving.recommenders.scheduler import Scheduler
from training.manifest import find_checkpoints


@pytest.fixture(scope="module")
def recommenders(trained_runs: Path) -> list[Recommender]:
    """Two adapters on one base."""
    checkpoints = find_checkpoints(trained_runs)
    return load_recommenders([checkpoints[0], checkpoints[-1]])


@pytest.fixture(scope="module")
def asks(recommenders: list[Recommender], tiny_cohort: Path) -> list[Ask]:
    admissions = [to_admission(facts) for facts in read_samples(tiny_cohort, "train").head(12).iter_rows(named=True)]
    encode = [prompts.encode(recommenders[0].engine.tokenizer, prompts.render_prompt(one)) for one in admissions]
    return [Ask(ids, 120, most_items=3 + i % 4, samples=i % 3, seed=i) for i, ids in enumerate(encode)]


@pytest.fixture
def scheduler(recommenders: list[Recommender]) -> Any:
    made = Scheduler(recommenders[0].engine, rows=5, waiting=100)
    yield made
    made.close()


def items(lists: Any) -> list[tuple[int, ...]]:
    return [one.items for one in lists]


def test_requests_of_many_threads_and_two_adapters_get_what_they_would_alone(
    scheduler: Scheduler, recommenders: list[Recommender], asks: list[Ask]
) -> None:
    alone = [[items(one.engine.draw([ask], one.adapter, one.trie)[0]) for ask in asks] for one in recommenders]
    found: dict[tuple[int, int], Any] = {}

    def client(who: int, i: int) -> None:
        one = recommenders[who]
        found[who, i] = items(scheduler.submit(asks[i], one.adapter, one.trie).result(60))

    threads = [threading.Thread(target=client, args=(who, i)) for i in range(len(asks)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[found[who, i] for i in range(len(asks))] for who in (0, 1)] == alone


def test_a_full_queue_refuses_at_once(recommenders: list[Recommender], asks: list[Ask]) -> None:
    one = recommenders[0]
    scheduler = Scheduler(one.engine, rows=3, waiting=2)
    with one.engine.turned_to(one.adapter):  # nothing moves meanwhile
        first = scheduler.submit(asks[0], one.adapter, one.trie)
        while scheduler.waiting:
            time.sleep(0.001)
        kept = [scheduler.submit(asks[0], one.adapter, one.trie) for _ in range(2)]
        with pytest.raises(BusyError, match="2 requests are waiting"):
            scheduler.submit(asks[0], one.adapter, one.trie)
    assert len({str(items(future.result(60))) for future in (first, *kept)}) == 1
    scheduler.close()


def test_a_full_queue_has_room_where_somebody_gave_up_or_waited_in_vain(
    recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    scheduler = Scheduler(one.engine, rows=3, waiting=2)
    with one.engine.turned_to(one.adapter):
        first = scheduler.submit(asks[0], one.adapter, one.trie)
        while scheduler.waiting:
            time.sleep(0.001)
        given_up = scheduler.submit(asks[0], one.adapter, one.trie)
        late = scheduler.submit(asks[0], one.adapter, one.trie, seconds=0)
        assert given_up.cancel()
        kept = [scheduler.submit(asks[0], one.adapter, one.trie) for _ in range(2)]
        with pytest.raises(LateError):
            late.result(0)
        with pytest.raises(BusyError, match="2 requests are waiting"):
            scheduler.submit(asks[0], one.adapter, one.trie)
    assert len({str(items(future.result(60))) for future in (first, *kept)}) == 1
    scheduler.close()


def test_who_gave_up_is_dropped_and_leaves_the_rows_to_others(
    scheduler: Scheduler, recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    with one.engine.turned_to(one.adapter):
        given_up = [scheduler.submit(asks[2], one.adapter, one.trie) for _ in range(5)]
        for future in given_up:
            assert future.cancel()
    last = scheduler.submit(asks[2], one.adapter, one.trie)
    assert len(last.result(60)) == 2
    for future in given_up:
        with pytest.raises(CancelledError):
            future.result(60)


def test_a_deadline_that_passes_is_told_and_ends_the_work(
    scheduler: Scheduler, recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    with pytest.raises(LateError, match="deadline"):
        scheduler.submit(asks[0], one.adapter, one.trie, seconds=0).result(60)
    with one.engine.turned_to(one.adapter):
        late = scheduler.submit(asks[0], one.adapter, one.trie, seconds=0.05)
        time.sleep(0.1)
    with pytest.raises(LateError, match="deadline"):
        late.result(60)
    assert len(scheduler.submit(asks[1], one.adapter, one.trie).result(60)) == 1


def test_a_failure_of_the_model_is_told_and_the_next_request_is_answered(
    scheduler: Scheduler, recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    with pytest.raises(IndexError):
        scheduler.submit(Ask([10**6], 100), one.adapter, one.trie).result(60)
    assert len(scheduler.submit(asks[1], one.adapter, one.trie).result(60)) == 1


def test_what_nobody_could_answer_is_refused_before_it_is_anybodys_trouble(
    scheduler: Scheduler, recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    every = frozenset(range(len(one.trie.names)))
    with pytest.raises(ConfigError, match="every drug of the formulary is forbidden"):
        scheduler.submit(Ask(asks[0].prompt, 100, forbidden=every), one.adapter, one.trie)
    with pytest.raises(ConfigError, match="6 lists for one request, wanted at most 5"):
        scheduler.submit(Ask(asks[0].prompt, 100, samples=6), one.adapter, one.trie)


def test_closing_finishes_what_was_asked_for_and_takes_nothing_more(
    recommenders: list[Recommender], asks: list[Ask]
) -> None:
    one = recommenders[0]
    scheduler = Scheduler(one.engine, rows=3, waiting=100)
    futures = [scheduler.submit(ask, one.adapter, one.trie) for ask in asks]
    scheduler.close()
    assert all(future.done() and len(future.result()) == ask.rows for future, ask in zip(futures, asks, strict=True))
    with pytest.raises(BusyError):
        scheduler.submit(asks[0], one.adapter, one.trie)
