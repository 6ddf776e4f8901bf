"""Baselines: lists of exactly the asked length, and an oracle that nobody beats."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.lengths import best_length, matched_lengths, oracle

FORMULARY = [f"drug {i}" for i in range(12)]
lengths = st.integers(0, 12)
previous_lists = st.none() | st.lists(st.sampled_from([*FORMULARY, "unlisted a", "unlisted b"]), max_size=14)
chance_lists = st.lists(st.floats(0, 1), max_size=6).map(lambda chances: sorted(chances, reverse=True))


def expected_jaccard(drafted: set[int], chances: list[float]) -> float:
    """Enumerate every set of orders; both lists empty counts 1."""
    total = 0.0
    for ordered in product([False, True], repeat=len(chances)):
        truth = {i for i, is_ordered in enumerate(ordered) if is_ordered}
        chance = 1.0
        for i, is_ordered in enumerate(ordered):
            chance *= chances[i] if is_ordered else 1 - chances[i]
        total += chance * (len(drafted & truth) / len(drafted | truth) if drafted | truth else 1.0)
    return total


# --- lists of matched length ----------------------------------------------------------------------------


@given(st.lists(st.none() | st.integers(1, 30)))
def test_a_baseline_gets_the_models_length_or_its_mean_where_it_gave_none(given_lengths):
    known = [length for length in given_lengths if length is not None]
    usual = round(sum(known) / len(known)) if known else 9
    assert matched_lengths(given_lengths, otherwise=9) == [
        usual if length is None else length for length in given_lengths
    ]


def test_an_empty_list_of_the_model_is_matched_by_an_empty_list():
    """An empty list is an answer of length 0; only an answer that is no list has no length."""
    assert matched_lengths([4, 0, None], otherwise=9) == [4, 0, 2]


# --- the oracle -----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(chance_lists)
def test_no_set_of_drugs_beats_the_best_length(chances):
    value = expected_jaccard(set(range(best_length(chances))), chances)
    drugs = range(len(chances))
    best = max(
        expected_jaccard(set(chosen), chances) for k in range(len(chances) + 1) for chosen in combinations(drugs, k)
    )
    assert value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize(
    "chances",
    [
        [0.95, 0.9, 0.7, 0.5, 0.4, 0.3, 0.1, 0.05],
        [0.5] * 8,
        [0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.02, 0.01],
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ],
)
def test_no_set_of_eight_drugs_beats_the_best_length(chances):
    value = expected_jaccard(set(range(best_length(chances))), chances)
    best = max(expected_jaccard(set(chosen), chances) for k in range(9) for chosen in combinations(range(8), k))
    assert value == pytest.approx(best, abs=1e-9)


@settings(max_examples=60)
@given(chance_lists, st.randoms())
def test_no_permutation_beats_the_oracle_at_any_length(chances, draw):
    names = [str(i) for i in range(len(chances))]
    best = expected_jaccard({int(name) for name in oracle(names, chances)}, chances)
    shuffled = list(range(len(chances)))
    draw.shuffle(shuffled)
    for length in range(len(chances) + 1):
        assert expected_jaccard(set(shuffled[:length]), chances) <= best + 1e-9


def test_where_nothing_can_be_ordered_the_oracle_drafts_nothing():
    assert oracle([], []) == []
    assert oracle(["a", "b"], [0.0, 0.0]) == []


def test_certain_drugs_are_drafted_and_impossible_ones_are_not():
    assert oracle(["a", "b", "c"], [1.0, 1.0, 0.0]) == ["a", "b"]


def test_the_oracle_is_exact_on_lists_too_long_to_enumerate():
    """Of n drugs with chance c each, J of k is k c E[1 / (k + Bin(n - k, c))], summed here term by term."""
    from math import comb

    n, c = 40, 0.35

    def value(k: int) -> float:
        rest = n - k
        return k * c * sum(comb(rest, m) * c**m * (1 - c) ** (rest - m) / (k + m) for m in range(rest + 1))

    assert value(best_length([c] * n)) == pytest.approx(max(value(k) for k in range(1, n + 1)))
