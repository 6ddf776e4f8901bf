"""The pace of questions; its faults, one by one, are tested where a judge is asked."""

from __future__ import annotations

from etl.outside.ask import Limits, Pace


def test_a_pace_deals_out_moments_evenly_and_holds_when_asked() -> None:
    pace = Pace(60)
    assert [pace.reserve(1, 100.0) for _ in range(3)] == [100, 101, 102]
    assert pace.reserve(5, 200.0) == 200
    assert pace.reserve(1, 200.0) == 205
    pace.hold(300)
    assert pace.reserve(1, 210.0) == 300
    assert [Pace(None).reserve(10**6, 5.0) for _ in range(2)] == [5.0, 5.0]


def test_the_shipped_limits_are_modest() -> None:
    assert Limits().concurrency <= 8
