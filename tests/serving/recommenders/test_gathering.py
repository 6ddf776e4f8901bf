"""The gatherer: requests that meet share a call, a failure is nobody else's, and nobody waits for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.recommendation import BusyError, LateError
from serving.recommenders.gathering import Gatherer


class Squares:
    """Squares numbers, once its gate is open, and keeps what it was asked together."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, questions: Sequence[int], adapter: str) -> list[int]:
        self.calls.append((adapter, list(questions)))
        self.gate.wait(10)
        if -1 in questions:
            raise ValueError("-1 was asked")
        return [question**2 for question in questions if question != -2]


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def make(squares: Squares) -> Iterator[Callable[..., Gatherer[int, int]]]:
    made: list[Gatherer[int, int]] = []

    def make(together: int = 4, waiting: int = 100) -> Gatherer[int, int]:
        made.append(Gatherer(squares, together, waiting))
        return made[-1]

    yield make
    squares.gate.set()
    for one in made:
        one.close()


def held(squares: Squares, gatherer: Gatherer[int, int]) -> Future[int]:
    """Let a first request occupy the thread until the gate opens."""
    squares.gate.clear()
    first = gatherer.submit(0, "a")
    while not squares.calls:
        time.sleep(0.001)
    return first


def test_what_comes_while_a_call_runs_is_asked_together_and_the_oldest_first(squares, make):
    gatherer = make()
    first = held(squares, gatherer)
    later = [gatherer.submit(question, "a") for question in range(1, 7)]
    assert gatherer.waiting == 6
    squares.gate.set()
    assert [one.result(10) for one in (first, *later)] == [0, 1, 4, 9, 16, 25, 36]
    assert squares.calls == [("a", [0]), ("a", [1, 2, 3, 4]), ("a", [5, 6])]


def test_one_call_is_for_one_adapter_and_the_oldest_request_chooses_which(squares, make):
    gatherer = make()
    held(squares, gatherer)
    later = [gatherer.submit(question, adapter) for question, adapter in ((1, "b"), (2, "a"), (3, "b"), (4, "a"))]
    squares.gate.set()
    assert [one.result(10) for one in later] == [1, 4, 9, 16]
    assert squares.calls[1:] == [("b", [1, 3]), ("a", [2, 4])]


def test_a_full_queue_refuses_at_once_and_has_room_where_somebody_gave_up(squares, make):
    gatherer = make(waiting=2)
    held(squares, gatherer)
    waiting = [gatherer.submit(1, "a"), gatherer.submit(2, "a")]
    with pytest.raises(BusyError, match="2 requests are waiting"):
        gatherer.submit(3, "a")
    assert waiting[0].cancel()
    last = gatherer.submit(3, "a")
    squares.gate.set()
    assert (waiting[1].result(10), last.result(10)) == (4, 9)


def test_who_gave_up_is_never_asked_for(squares, make):
    gatherer = make()
    held(squares, gatherer)
    given_up, kept = gatherer.submit(1, "a"), gatherer.submit(2, "a")
    assert given_up.cancel()
    squares.gate.set()
    assert kept.result(10) == 4
    assert squares.calls[1:] == [("a", [2])]
    with pytest.raises(CancelledError):
        given_up.result(10)


def test_a_deadline_that_passes_is_told_and_the_request_never_asked_for(squares, make):
    gatherer = make()
    held(squares, gatherer)
    late, kept = gatherer.submit(1, "a", seconds=0.01), gatherer.submit(2, "a", seconds=60)
    time.sleep(0.02)
    squares.gate.set()
    with pytest.raises(LateError, match="deadline"):
        late.result(10)
    assert kept.result(10) == 4
    assert squares.calls[1:] == [("a", [2])]


def test_an_answer_that_comes_after_the_deadline_is_late_and_its_company_is_not(squares, make):
    gatherer = make()
    held(squares, gatherer)
    late, kept = gatherer.submit(1, "a", seconds=0.2), gatherer.submit(2, "a")
    slow, squares.gate = squares.gate, threading.Event()
    slow.set()
    while len(squares.calls) < 2:
        time.sleep(0.001)
    time.sleep(0.25)
    squares.gate.set()
    assert kept.result(10) == 4
    with pytest.raises(LateError):
        late.result(10)


@pytest.mark.parametrize(("poison", "told"), [(-1, "-1 was asked"), (-2, "shorter")])
def test_a_call_that_fails_or_answers_too_few_fails_its_own_requests_only(squares, make, poison, told):
    gatherer = make()
    first = held(squares, gatherer)
    failed = [gatherer.submit(question, "b") for question in (1, poison)]
    others = [gatherer.submit(2, "a")]
    squares.gate.set()
    for one in failed:
        with pytest.raises(ValueError, match=told):
            one.result(10)
    assert [one.result(10) for one in (first, *others, gatherer.submit(3, "b"))] == [0, 4, 9]


def test_closing_finishes_what_was_asked_for_and_takes_nothing_more(squares, make):
    gatherer = make()
    first = held(squares, gatherer)
    later = [gatherer.submit(question, "a") for question in range(9)]
    squares.gate.set()
    gatherer.close()
    assert [one.result(0) for one in (first, *later)] == [0, *(question**2 for question in range(9))]
    with pytest.raises(BusyError):
        gatherer.submit(1, "a")


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(1, 8),
)
def test_everybody_gets_the_own_answer_whatever_else_is_asked_and_given_up(asked, together):
    squares = Squares()
    gatherer = Gatherer(squares, together, waiting=60)

    def client(question: int, adapter: str, gives_up: bool) -> int | None:
        future = gatherer.submit(question, adapter, seconds=60)
        return None if gives_up and future.cancel() else future.result(10)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(client, *zip(*asked, strict=True))) if asked else []
    gatherer.close()
    for (question, _, gives_up), answer in zip(asked, found, strict=True):
        assert answer == question**2 or (gives_up and answer is None)
    assert all(0 < len(questions) <= together for _, questions in squares.calls)
