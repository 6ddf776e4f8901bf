"""The circuit breaker against its own words: any history of calls, with a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.drafting.breaker import Breaker, EngineDownError


class BrokenError(Exception):
    """What the engine did."""


class Calls(RuleBasedStateMachine):
    """A breaker beside the few numbers that say what it must do."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.in_a_row, self.opened = 0.0, 0, 0.0
        self.breaker = Breaker(3, 10, clock=lambda: self.now)

    @property
    def lets_pass(self) -> bool:
        return self.in_a_row < 3 or self.now >= self.opened + 10

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.lets_pass)
    @rule(how=st.sampled_from(["answer", "fail", "go"]))
    def call(self, how: str) -> None:
        try:
            with self.breaker.guard() as outcome:
                if how != "answer":
                    outcome.failed = how == "fail"
                    raise BrokenError
        except BrokenError:
            pass
        if how == "answer":
            self.in_a_row = 0
        elif how == "fail":
            self.in_a_row, self.opened = self.in_a_row + 1, self.now

    @precondition(lambda self: not self.lets_pass)
    @rule()
    def knock(self) -> None:
        with pytest.raises(EngineDownError) as refused, self.breaker.guard():
            raise AssertionError("an open breaker let a call pass")
        assert 1 <= refused.value.retry_after <= 10

    @invariant()
    def says_whether_it_is_open(self) -> None:
        assert self.breaker.is_open is (self.in_a_row >= 3)


TestCalls = Calls.TestCase


def test_a_half_open_breaker_lets_one_call_try_and_no_second() -> None:
    now = 0.0
    breaker = Breaker(1, 10, clock=lambda: now)
    with breaker.guard() as outcome:
        outcome.failed = True
    now = 11.0
    with breaker.guard(), pytest.raises(EngineDownError), breaker.guard():
        raise AssertionError("a second call passed beside the probe")
    with breaker.guard():
        assert not breaker.is_open
