"""Subgroups: by hand, against the definition, and what suppression gives away."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evaluation.statistics.ratios import Ratio, mean
from evaluation.statistics.subgroups import Group, cluster_error, columns, groups, suppress


def named(found: list[Group]) -> dict[str, Group]:
    return {group.name: group for group in found}


def sized(**patients: int) -> list[Group]:
    return [Group(name, n, n, 0.5, 0.1, 0.0, 0.5) for name, n in patients.items()]


def test_estimates_and_gaps_are_what_the_hand_counts():
    score = mean([1, 0, 0.5, 0.5, np.nan])
    found = named(groups(score, ["F", "F", "M", "M", None], [1, 2, 3, 3, 4], minimum=0))
    assert found["F"].estimate == 0.5
    assert found["M"].gap == 0
    assert (found["M"].patients, found["M"].visits) == (1, 2)
    assert found["unknown"].estimate is None
    assert list(found) == ["F", "M", "unknown"]


def test_the_worst_group_is_the_lowest_of_those_shown():
    score = mean([0.0] + [0.5] * 30 + [0.7] * 30 + [0.6] * 21)
    labels = ["tiny"] + ["a"] * 30 + ["b"] * 30 + ["c"] * 21
    found = groups(score, labels, list(range(82)))
    assert [group.name for group in found if group.worst] == ["a"]
    assert [group.name for group in found if group.hidden] == ["c", "tiny"]


def test_gap_is_to_all_other_visits():
    score = Ratio(np.array([1.0, 2, 6]), np.array([2.0, 4, 6]))
    assert named(groups(score, ["a", "b", "c"], [1, 2, 3], minimum=0))["a"].gap == pytest.approx(0.5 - 8 / 10)


def test_columns_are_the_groups_and_their_rests():
    score = Ratio(np.array([1.0, 2, 6]), np.array([2.0, 4, 6]))
    cut = columns(score, ["a", "b", "a"])
    assert cut.names == ["a", "b"]
    assert cut.num.tolist() == [[1, 0], [0, 2], [6, 0]]
    assert np.array_equal(cut.num + cut.rest_num, np.column_stack([score.num] * 2))
    assert np.array_equal(cut.den + cut.rest_den, np.column_stack([score.den] * 2))


# --- the standard error and shrinkage -----------------------------------------------------------------


def test_the_error_is_that_of_patients_not_of_visits():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(300), 4)
    scores = rng.normal(size=300)[patient]  # a patient's visits are alike
    assert cluster_error(mean(scores), patient) == pytest.approx(scores.std() / 300**0.5, rel=0.01)


def test_the_error_is_the_spread_of_redrawn_patients():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(200), rng.integers(1, 6, 200))
    den = rng.integers(1, 9, len(patient)).astype(float)
    num = rng.binomial(den.astype(int), rng.beta(4, 4, 200)[patient]).astype(float)
    by_patient = np.array([[num[patient == one].sum(), den[patient == one].sum()] for one in range(200)])
    draws = rng.multinomial(200, np.full(200, 1 / 200), size=4000) @ by_patient
    assert cluster_error(Ratio(num, den), patient) == pytest.approx((draws[:, 0] / draws[:, 1]).std(), rel=0.06)


def test_the_error_of_two_patients_is_what_the_hand_counts():
    assert cluster_error(mean([0, 1]), [1, 2]) == pytest.approx(0.5)


def test_one_patient_has_no_error():
    assert cluster_error(mean([0.1, 0.9]), [7, 7]) is None


def test_groups_that_differ_by_noise_alone_shrink_to_the_overall_score():
    rng = np.random.default_rng(2)
    scores, labels = rng.normal(0.5, 0.1, 400), np.repeat(list("abcd"), 100)
    found = groups(mean(scores), labels, np.arange(400))
    spread = [np.ptp([getattr(group, name) for group in found]) for name in ("shrunken", "estimate")]
    assert spread[0] < 0.3 * spread[1]
    apart = groups(mean(scores + np.repeat([0, 1, 2, 3], 100)), labels, np.arange(400))
    assert all(group.shrunken == pytest.approx(group.estimate, abs=0.01) for group in apart)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 1)), min_size=2, max_size=30))
def test_a_shrunken_estimate_lies_between_the_estimate_and_the_overall_score(visits):
    labels, patients, scores = zip(*visits, strict=True)
    overall = np.mean(scores)
    for group in groups(mean(scores), labels, patients, minimum=0):
        if group.shrunken is not None:
            low, high = sorted([group.estimate, overall])
            assert low - 1e-9 <= group.shrunken <= high + 1e-9


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 1)), max_size=30), st.randoms())
def test_the_order_of_visits_does_not_matter(visits, random):
    shuffled = random.sample(visits, len(visits))
    before, after = (
        groups(mean([v[2] for v in rows]), [v[0] for v in rows], [v[1] for v in rows], minimum=3)
        for rows in (visits, shuffled)
    )
    assert [(g.name, g.patients, g.hidden) for g in before] == [(g.name, g.patients, g.hidden) for g in after]
    assert [g.estimate for g in before] == pytest.approx([g.estimate for g in after])


# --- suppression --------------------------------------------------------------------------------------


def suppressed(minimum: int = 20, /, **sizes: int) -> list[Group]:
    """Suppress groups that share no patient."""
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    whose = {name: frozenset(range(starts[name], starts[name] + n)) for name, n in sizes.items()}
    return suppress(sized(**sizes), whose, minimum)


def test_the_same_patients_hidden_twice_count_once():
    few = frozenset(range(10))
    whose = {"a": frozenset(range(100)), "b": frozenset(range(100, 140)), "c": few, "d": few}
    hidden = {group.name for group in suppress(sized(a=100, b=40, c=10, d=10), whose) if group.hidden}
    assert hidden == {"b", "c", "d"}


def test_a_small_group_takes_the_next_smallest_with_it():
    assert {group.name for group in suppressed(a=100, b=40, c=19, d=60) if group.hidden} == {"b", "c"}


def test_groups_large_enough_are_all_shown():
    assert suppressed(a=20, b=21) == sized(a=20, b=21)


def test_two_groups_that_are_small_together_take_a_third():
    assert {group.name for group in suppressed(a=100, b=40, c=3, d=5) if group.hidden} == {"b", "c", "d"}


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 30))
def test_nothing_hidden_is_left_alone_or_small(patients, minimum):
    sizes = {f"g{i}": n for i, n in enumerate(patients)}
    after = suppressed(minimum, **sizes)
    hidden = [one.patients for one, group in zip(sized(**sizes), after, strict=True) if group.hidden]
    assert all(n in hidden for n in patients if n < minimum)
    assume(0 < len(hidden) < len(patients))
    assert len(hidden) > 1
    assert sum(hidden) >= minimum


def test_a_hidden_group_keeps_nothing_but_its_name():
    hidden = named(suppressed(a=100, b=40, c=19))["c"]
    assert hidden == Group("c", None, None, None, None, None, None, hidden=True)
