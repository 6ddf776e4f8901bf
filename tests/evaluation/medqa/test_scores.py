"""Scores of multiple-choice answers: worked by hand, held to textbook values, and sound where items are few."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.medqa.exam import SCHEMA
from evaluation.medqa.scores import (
    Verdict,
    compare,
    difference_interval,
    differences,
    mcnemar,
    score,
    verdict,
)


def answers(rows: list[tuple[int, int, list[int | None]]], model: str = "base", options: int = 4) -> pl.DataFrame:
    """Make rows of per_item.parquet from (answer, likeliest, tries)."""
    made: list[dict[str, Any]] = [
        {"set": "s", "model": model, "id": str(i), "options": options, "answer": answer, "likeliest": likeliest,
         "likelihoods": [0.0] * options, "tries": tries, "texts": [""] * len(tries)}
        for i, (answer, likeliest, tries) in enumerate(rows)
    ]  # fmt: skip
    return pl.DataFrame(made, schema=SCHEMA)


WORKED = answers(
    [
        (0, 0, [0, 0, 1]),  # right at once
        (1, 1, [None, 1, 2]),  # right at the first that parses; a tie, of which the earlier counts
        (2, 0, [3, 2, 2]),  # wrong at once, right by majority
        (3, 0, [None, None, None]),  # never says anything, and the likeliest is wrong
    ]
)


def test_a_worked_example_scores_as_by_hand():
    scores = score(WORKED)
    assert scores.items == 4
    assert scores.chance == 0.25
    assert scores.likelihood == 2 / 4
    assert scores.first == 1 / 4
    assert scores.parsed_first == 2 / 4
    assert scores.parsed == 3 / 4
    assert scores.first_parsed == 2 / 4
    assert scores.majority == 3 / 4
    assert scores.any_try == 3 / 4
    assert scores.any_try_chance == pytest.approx(1 - 0.75**3)


def test_ten_tries_are_right_by_guessing_in_94_of_100():
    assert score(answers([(0, 0, [None] * 10)])).any_try_chance == pytest.approx(0.944, abs=5e-4)


def test_the_chance_of_tries_holds_for_an_ignorant_model():
    draw = np.random.default_rng(0)
    guessed = [(int(draw.integers(5)), 0, draw.integers(5, size=6).tolist()) for _ in range(4000)]
    scores = score(answers(guessed, options=5))
    assert scores.any_try == pytest.approx(scores.any_try_chance, abs=0.03)
    assert scores.first == pytest.approx(scores.chance, abs=0.03)


def test_the_interval_of_a_share_is_wilsons():
    # Newcombe, Stat Med 1998;17:857-872, table I: 81 of 263, 15 of 148, 0 of 20.
    for right, items, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        scores = score(answers([(0, 0, [0])] * right + [(0, 0, [1])] * (items - right)))
        assert scores.interval == pytest.approx((low, high), abs=5e-5)


# --- against the base -----------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemars_p_is_the_share_of_even_splits_at_least_as_uneven(lost, gained):
    changed = lost + gained
    uneven = abs(lost - gained)
    worse = sum(math.comb(changed, i) for i in range(changed + 1) if abs(changed - 2 * i) >= uneven)
    assert mcnemar(lost, gained) == pytest.approx(worse / 2**changed, rel=1e-9)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_the_difference_counts_what_only_one_of_them_has_right():
    found = compare([True, True, True, False, False], [True, False, False, True, False])
    assert (found.lost, found.gained, found.estimate) == (2, 1, pytest.approx(-0.2))
    assert found.interval[0] <= found.estimate <= found.interval[1]


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        ((-0.029, 0.01), Verdict.NON_INFERIOR),
        ((-0.02, -0.01), Verdict.NON_INFERIOR),  # a certain loss, but smaller than the margin
        ((-0.03, 0.01), Verdict.INCONCLUSIVE),
        ((-0.10, -0.001), Verdict.INFERIOR),
        ((-0.10, 0.0), Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_asks_first_whether_the_loss_is_within_the_margin(interval, wanted):
    assert verdict(interval, 0.03) is wanted


def test_few_items_without_a_loss_prove_nothing_and_many_do():
    assert compare([True] * 12, [True] * 12).verdict is Verdict.INCONCLUSIVE
    assert compare([True] * 1000, [True] * 1000).verdict is Verdict.NON_INFERIOR
    assert compare([True] * 1000, [False] * 100 + [True] * 900).verdict is Verdict.INFERIOR


@pytest.mark.parametrize(("items", "loses", "gains"), [(40, 0.1, 0.02), (200, 0.04, 0.01), (1273, 0.06, 0.03)])
def test_the_interval_covers_a_known_difference_as_often_as_it_says(items, loses, gains):
    drawn = np.random.default_rng(1).multinomial(items, [loses, gains, 1 - loses - gains], size=300)
    bounds = [difference_interval(int(lost), int(gained), items) for lost, gained, _ in drawn]
    covered = np.mean([low - 1e-9 <= gains - loses <= high + 1e-9 for low, high in bounds])
    assert covered > 0.93


def test_a_loss_of_the_margins_size_is_seldom_called_non_inferior():
    drawn = np.random.default_rng(2).multinomial(50, [0.03, 0, 0.97], size=300)
    called = [verdict(difference_interval(int(lost), int(gained), 50)) for lost, gained, _ in drawn]
    assert np.mean([found is Verdict.NON_INFERIOR for found in called]) <= 0.05


def test_every_checkpoint_is_compared_with_the_base_by_each_measure_and_holm_counts_them():
    base = answers([(0, 0, [0])] * 20)
    worse = answers([(0, 0, [None])] * 6 + [(0, 0, [0])] * 14, "worse")
    blind = answers([(0, 1, [0])] * 20, "blind")
    found = differences(pl.concat([base, worse, blind]), "first")
    assert list(found) == ["worse", "blind"]
    assert [(d.lost, d.gained) for d in found.values()] == [(6, 0), (0, 0)]
    assert found["worse"].p == pytest.approx(2 / 2**6)
    assert found["worse"].p_holm == pytest.approx(2 * 2 / 2**6)
    assert found["blind"].p_holm == 1
    by_likelihood = differences(pl.concat([base, worse, blind]), "likelihood")
    assert [(d.lost, d.gained) for d in by_likelihood.values()] == [(0, 0), (20, 0)]


def test_without_checkpoints_there_is_no_difference():
    assert differences(WORKED, "first") == {}
