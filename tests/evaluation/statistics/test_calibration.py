"""Calibration: against drugs scored one by one, by hand, and where the truth is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.statistics.calibration import (
    Levels,
    Universe,
    brier,
    debiased_ece,
    decompose,
    ece,
    equal_mass,
    in_the_large,
    levels,
)

SAMPLES = 4


@st.composite
def votes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Vote shares and outcomes of every drug of the formulary, (visits, drugs)."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    cells = st.lists(st.integers(0, SAMPLES), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    p = np.array(draw(cells)).reshape(shape) / SAMPLES
    y = (np.array(draw(cells)).reshape(shape) > 1).astype(int)
    return p, y


def table(p: np.ndarray, y: np.ndarray) -> pl.DataFrame:
    """The table's level columns: only levels that the visit has."""
    rows = []
    for shares, outcomes in zip(p, y, strict=True):
        at = sorted(set(shares.tolist()))
        rows.append(
            {
                "level_p": at,
                "level_n": [int((shares == level).sum()) for level in at],
                "level_y": [int(outcomes[shares == level].sum()) for level in at],
            }
        )
    return pl.DataFrame(rows)


@given(votes())
def test_scores_of_levels_are_those_of_drugs_one_by_one(drugs):
    p, y = drugs
    counted = levels(table(p, y))
    assert brier(counted).value == pytest.approx(((p - y) ** 2).mean())
    assert in_the_large(counted).value == pytest.approx((p - y).sum() / len(p))


@given(votes())
def test_candidates_are_drugs_voted_for_or_ordered(drugs):
    p, y = drugs
    candidates = (p > 0) | (y == 1)
    counted = levels(table(p, y), Universe.CANDIDATES)
    assert counted.n.sum() == candidates.sum()
    if candidates.any():
        assert brier(counted).value == pytest.approx(((p - y)[candidates] ** 2).mean())


@given(votes())
def test_the_parts_of_the_brier_score_sum_to_it(drugs):
    counted = levels(table(*drugs))
    parts = decompose(counted)
    assert parts is not None
    assert min(parts) >= -1e-12
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(brier(counted).value)


@given(votes(), st.integers(1, 12), st.randoms())
def test_bins_lose_no_drug_part_no_level_and_ignore_the_order(drugs, bins, random):
    p, y = drugs
    binned = equal_mass(levels(table(p, y)), bins)
    assert binned.n.sum() == p.size
    assert binned.y.sum() == y.sum()
    assert binned.p.sum() == pytest.approx(p.sum())
    assert binned.n.shape[1] <= min(bins, SAMPLES + 1)
    means = [point[0] for point in binned.points]
    assert means == sorted(means)
    order = random.sample(range(len(p)), len(p))
    assert ece(equal_mass(levels(table(p[order], y[order])), bins)) == pytest.approx(ece(binned))


@given(votes())
def test_errors_are_bounded_and_0_where_the_votes_are_the_truth(drugs):
    p, y = drugs
    binned = equal_mass(levels(table(p, y)))
    assert 0 <= ece(binned) <= 1
    assert 0 <= debiased_ece(binned) <= 1
    perfect = equal_mass(levels(table(y.astype(float), y)))
    assert ece(perfect) == debiased_ece(perfect) == 0


def test_bins_and_errors_are_what_the_hand_counts():
    # 20 drugs at 0 of which 2 are ordered, 10 at .5 of which 8, 10 at 1 of which 10
    counted = Levels(np.array([0, 0.5, 1]), np.array([[20.0, 10, 10]]), np.array([[2.0, 8, 10]]))
    assert equal_mass(counted, bins=3).points == [(0.0, 0.1, 20), (0.5, 0.8, 10), (1.0, 1.0, 10)]
    assert equal_mass(counted, bins=2).points == [(0.0, 0.1, 20), (0.75, 0.9, 20)]
    assert ece(equal_mass(counted, bins=3)) == pytest.approx((20 * 0.1 + 10 * 0.3) / 40)
    heavy_last = Levels(np.array([0, 1]), np.array([[10.0, 30]]), np.array([[0.0, 30]]))
    assert equal_mass(heavy_last, bins=2).points == [(0.0, 0.0, 10), (1.0, 1.0, 30)]
    squared = (20 * (0.01 - 0.09 / 19) + 10 * (0.09 - 0.16 / 9)) / 40
    assert debiased_ece(equal_mass(counted, bins=3)) == pytest.approx(squared**0.5)


def test_debiasing_removes_the_error_of_votes_that_are_true():
    rng = np.random.default_rng(5)
    p = rng.integers(0, 11, size=(400, 30)) / 10
    binned = equal_mass(levels(table(p, (rng.random(p.shape) < p).astype(int))))
    assert ece(binned) > 0.005
    assert debiased_ece(binned) < 0.005


def test_a_visit_without_votes_has_no_drug():
    row = {"level_p": [0.5], "level_n": [3], "level_y": [1]}
    visits = pl.DataFrame([row, dict.fromkeys(row), {name: [] for name in row}])
    counted = levels(visits)
    assert counted.n.tolist() == [[3], [0], [0]]


def test_without_any_vote_every_score_is_undefined():
    empty = levels(table(np.zeros((2, 0)), np.zeros((2, 0), dtype=int)).cast({"level_p": pl.List(pl.Float64)}))
    assert brier(empty).value is None
    assert decompose(empty) is None
    assert ece(equal_mass(empty)) is None
    assert debiased_ece(equal_mass(empty)) is None
