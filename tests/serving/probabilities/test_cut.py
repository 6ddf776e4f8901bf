"""Where lists are cut: by the best expected F1, by a threshold, by how many drugs may be wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serving.probabilities.cut import Cut, Floats, Rule

CHANCES = arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.floats(0.001, 0.999))
FEW = arrays(float, st.tuples(st.just(1), st.integers(1, 8)), elements=st.floats(0.001, 0.999))
CUTS = st.builds(Cut, st.sampled_from(Rule), st.floats(0, 1))


def best_by_trying_all(row: Floats) -> Floats:
    """Return what F1 is about to be for the k most probable, by the formula as it is written down."""
    falling = sorted(row, reverse=True)
    return np.array([2 * sum(falling[:k]) / (k + sum(falling)) for k in range(1, len(row) + 1)])


def expected_f1(row: Floats) -> Floats:
    """Return the expected F1 of the k most probable drugs, over all that may be ordered; 0 where nothing is."""
    falling = -np.sort(-row)
    truths = np.array(list(product([0, 1], repeat=len(row))))
    weight = np.where(truths, falling, 1 - falling).prod(axis=1)
    lengths = np.arange(1, len(row) + 1)
    return weight @ (2 * truths.cumsum(axis=1) / (lengths + truths.sum(axis=1, keepdims=True)))


@given(CHANCES)
def test_no_other_length_has_a_better_ratio_of_expectations(chances):
    for row, length in zip(chances, Cut().lengths(chances), strict=True):
        worth = best_by_trying_all(row)
        assert worth[length - 1] == pytest.approx(worth.max())


@given(FEW)
def test_the_cheap_rule_loses_little_of_the_exactly_expected_f1(chances):
    worth = expected_f1(chances[0])
    assert worth[Cut().length(chances[0]) - 1] >= 0.9 * worth.max()


@given(CHANCES, CUTS)
def test_a_list_has_at_least_one_drug_and_at_most_all(chances, cut):
    lengths = cut.lengths(chances)
    assert ((lengths >= 1) & (lengths <= chances.shape[1])).all()


@given(CHANCES, CUTS, st.randoms())
def test_the_order_of_drugs_changes_no_length(chances, cut, random):
    order = list(range(chances.shape[1]))
    random.shuffle(order)
    assert (cut.lengths(chances[:, order]) == cut.lengths(chances)).all()


@given(CHANCES, CUTS)
def test_an_admission_is_cut_alone_as_among_others(chances, cut):
    assert [cut.length(row) for row in chances] == cut.lengths(chances).tolist()


@given(CHANCES, st.floats(0, 1))
def test_a_threshold_keeps_what_is_at_least_as_probable(chances, at):
    lengths = Cut(Rule.THRESHOLD, at).lengths(chances)
    assert lengths.tolist() == [max(1, sum(p >= at for p in row)) for row in chances]


@given(CHANCES, st.floats(0, 6))
def test_one_drug_more_would_be_one_wrong_too_many(chances, at):
    for row, length in zip(chances, Cut(Rule.FALSE_POSITIVES, at).lengths(chances), strict=True):
        wrong = np.cumsum(1 - -np.sort(-row))
        assert length == 1 or wrong[length - 1] <= at
        assert length == len(row) or wrong[length] > at


@given(CHANCES, st.floats(0, 6), st.floats(0, 6))
def test_who_bears_more_wrong_drugs_gets_no_shorter_list(chances, one, other):
    few, many = (Cut(Rule.FALSE_POSITIVES, at).lengths(chances) for at in sorted((one, other)))
    assert (few <= many).all()


def test_a_cut_says_what_it_does():
    rules = [Cut(), Cut(Rule.THRESHOLD, 0.3), Cut(Rule.FALSE_POSITIVES, 2)]
    assert list(map(str, rules)) == ["best expected F1", "p >= 0.3", "2 wrong expected"]
