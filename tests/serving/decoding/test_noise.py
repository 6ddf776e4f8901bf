"""Noise without a state: Gumbel's distribution, and the same whoever else is drawn for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.decoding.noise import gumbel, seeds

MANY = 200_000


def test_noise_is_distributed_like_gumbels() -> None:
    found = gumbel(
        np.repeat(seeds(0, 200, [1, 2]), MANY // 200), np.arange(MANY, dtype=np.uint64) % 50, np.arange(MANY)
    )
    assert found.mean() == pytest.approx(0.5772, abs=0.01)
    assert found.var() == pytest.approx(np.pi**2 / 6, abs=0.03)
    below = [(found < x).mean() for x in (-1, 0, 1, 3)]
    assert below == pytest.approx([np.exp(-np.exp(-x)) for x in (-1, 0, 1, 3)], abs=0.005)


@pytest.mark.parametrize("which", ["samples", "steps", "choices"])
def test_the_highest_of_noisy_scores_is_a_draw_whatever_it_is_that_differs(which: str) -> None:
    chances, draws = np.array([0.5, 0.3, 0.15, 0.05]), MANY // 4
    each, steps, choices = np.repeat(seeds(0, 1, [1]), draws), np.zeros(draws, np.uint64), np.zeros(draws, np.int64)
    each = seeds(0, draws, [1]) if which == "samples" else each
    steps = np.arange(draws, dtype=np.uint64) if which == "steps" else steps
    choices = 4 * np.arange(draws) if which == "choices" else choices
    noise = np.stack([gumbel(each, steps, choices + i) for i in range(4)], axis=1)
    counts = np.bincount((np.log(chances) + noise).argmax(axis=1), minlength=4)
    assert counts / draws == pytest.approx(chances, abs=0.008)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_noise_does_not_hang_on_what_else_is_drawn(wanted: list[tuple[int, int, int]]) -> None:
    own, steps, edges = zip(*wanted, strict=True)
    each = seeds(5, 10, [1, 2, 3])
    together = gumbel(each[list(own)], np.array(steps, dtype=np.uint64), np.array(edges))
    alone = [gumbel(each[[i]], np.array([s], dtype=np.uint64), np.array([e]))[0] for i, s, e in wanted]
    assert together.tolist() == alone


def test_other_prompts_other_seeds_and_other_samples_have_other_noise() -> None:
    found = [*seeds(0, 3, [1, 2]), *seeds(1, 3, [1, 2]), *seeds(0, 3, [1, 3])]
    assert len(set(found)) == 9
    assert seeds(0, 5, [1, 2])[:3].tolist() == seeds(0, 3, [1, 2]).tolist()
