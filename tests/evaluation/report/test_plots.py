"""Drawings: axes enclose what they show, nothing lies outside, and a value is where its axis says."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.plots import Plot, Point, Series, draw, scale, strip
from training.drawing import round_numbers

values = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(values, values)
def test_round_numbers_enclose_the_values_evenly(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    marks = round_numbers(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 8
    steps = {round(y - x, 8) for x, y in pairwise(marks)}
    assert max(steps) - min(steps) <= 1e-6 * max(1.0, max(map(abs, marks)))


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1), st.floats(0, 0.1)), min_size=1, max_size=8))
def test_everything_lies_within_the_drawing(points: list[tuple[int, float, float]]) -> None:
    made = [Point(x, y, y - half, y + half) for x, y, half in points]
    drawn = draw(Plot("p", "t", "d", "x", "y", [Series("s", made)], [(0.5, "level")]))
    _, path, band, dots = drawn.lines[0]
    places = [tuple(map(float, pair)) for pair in re.findall(r"([-\d.]+) ([-\d.]+)", path + " " + band)] + dots
    for x, y in places:
        assert drawn.left - 0.1 <= x <= drawn.right + 0.1
        assert drawn.top - 0.1 <= y <= drawn.bottom + 0.1


def test_a_diagonal_has_both_axes_from_0_to_1() -> None:
    drawn = draw(Plot("p", "t", "d", "x", "y", [Series("s", [Point(0.2, 0.3)])], diagonal=True))
    assert (drawn.yticks[0][1], drawn.yticks[-1][1]) == ("0", "1")
    x, y = drawn.lines[0][3][0]
    assert (x - drawn.left) / (drawn.right - drawn.left) == pytest.approx(0.2, abs=0.01)
    assert (drawn.bottom - y) / (drawn.bottom - drawn.top) == pytest.approx(0.3, abs=0.01)


def test_a_point_without_an_interval_has_no_whisker() -> None:
    across = scale((0, 1), (0, 100))
    assert strip(0.5, None, None, across) == {"at": 50.0, "from": 50.0, "to": 50.0}
    assert strip(None, 0.1, 0.2, across) is None


def test_a_range_without_width_lands_in_the_middle() -> None:
    assert scale((3, 3), (0, 10))(3) == 5
    assert not any(
        math.isnan(place) for place, _ in draw(Plot("p", "t", "d", "x", "y", [Series("s", [Point(1, 0)])])).yticks
    )
