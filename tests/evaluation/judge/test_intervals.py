"""Intervals of shares: worked values, what they must cover, what they must not hide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.judge.correction import ppi
from evaluation.judge.intervals import clopper_pearson, clustered, half_width, identify, rogan_gladen, share


@pytest.mark.parametrize(
    ("hits", "n", "lo", "hi"), [(90, 100, 0.82, 0.95), (360, 400, 0.87, 0.93), (0, 10, 0.0, 0.31), (10, 10, 0.69, 1.0)]
)
def test_clopper_pearson_gives_the_published_bounds(hits: int, n: int, lo: float, hi: float) -> None:
    assert clopper_pearson(hits, n) == pytest.approx((lo, hi), abs=0.005)


def test_none_of_73_shows_a_rate_below_five_percent_and_few_less_do_not() -> None:
    assert clopper_pearson(0, 73)[1] < 0.05 < clopper_pearson(0, 71)[1]


@pytest.mark.parametrize(
    ("f", "lo", "hi", "identified"),
    [((360, 400), 0.76, 1.00, False), ((120, 400), 0.97, 1.00, True)],
)
def test_the_interval_of_the_true_rate_is_the_worked_example(
    f: tuple[int, int], lo: float, hi: float, identified: bool
) -> None:
    found = identify((0.982, 0.982), clopper_pearson(398, 400), clopper_pearson(*f))
    assert (round(found.lo, 2), round(found.hi, 2), found.identified) == (lo, hi, identified)


@pytest.mark.parametrize(("f", "true"), [(0.05, 0.986), (0.5, 0.974), (0.9, 0.863), (0.95, 0.711), (0.97, 0.48)])
def test_one_raw_rate_fits_very_different_true_ones(f: float, true: float) -> None:
    """98.2 % with sensitivity .995: what it says depends on f, which nobody knew."""
    assert rogan_gladen(0.982, 0.995, f) == pytest.approx(true, abs=0.001)


unit = st.floats(0, 1)


def interval(a: float, b: float) -> tuple[float, float]:
    return min(a, b), max(a, b)


@given(unit, unit, unit)
def test_a_rate_in_the_box_is_in_the_interval(true: float, s: float, f: float) -> None:
    p = true * s + (1 - true) * f
    around = [(max(x - 0.02, 0.0), min(x + 0.02, 1.0)) for x in (p, s, f)]
    found = identify(*around)
    assert found.lo - 1e-9 <= true <= found.hi + 1e-9
    assert 0 <= found.lo <= found.hi <= 1


@given(unit, unit, unit, unit, st.floats(0, 0.3))
def test_less_knowledge_never_narrows_the_interval(p: float, s: float, f: float, by: float, more: float) -> None:
    box = [interval(max(x - by * 0.1, 0), min(x + by * 0.1, 1)) for x in (p, s, f)]
    wider = [(max(lo - more, 0), min(hi + more, 1)) for lo, hi in box]
    narrow, wide = identify(*box), identify(*wider)
    assert wide.lo <= narrow.lo + 1e-9
    assert wide.hi >= narrow.hi - 1e-9


def test_a_judge_no_better_than_chance_identifies_nothing() -> None:
    found = identify((0.8, 0.9), (0.9, 0.95), (0.85, 0.92))
    assert (found.lo, found.hi, found.identified) == (0.0, 1.0, False)
    assert rogan_gladen(0.9, 0.5, 0.6) is None


def test_units_of_one_patient_do_not_count_as_so_many_patients() -> None:
    """All of 100 units approved, of 5 patients: that says no more than 5 patients can."""
    found = share(np.ones(100), np.repeat(np.arange(5), 20))
    assert (found.lo, found.hi) == clopper_pearson(5, 5)
    assert found.est == 1.0
    assert share(np.ones(100), np.arange(100)).lo > found.lo


def test_clustered_hits_have_a_wider_interval() -> None:
    hits = np.repeat(np.arange(40) % 2, 10).astype(float)
    apart, together = share(hits, np.arange(400)), share(hits, np.repeat(np.arange(40), 10))
    assert together.hi - together.lo > 2 * (apart.hi - apart.lo)


def test_of_nothing_nothing_is_known() -> None:
    found = share(np.array([]), np.array([], np.int64))
    assert (found.est, found.lo, found.hi, found.n) == (None, 0.0, 1.0, 0)


def test_one_patient_gives_no_interval() -> None:
    error, people = clustered(np.array([0.1, -0.1]), np.array([7, 7]))
    assert (error, people, half_width(error, people - 1)) == (float("inf"), 1, float("inf"))


# --- PPI++ ------------------------------------------------------------------------------------------------


def world(rng: np.random.Generator, s: float, f: float, true: float, patients: int = 500) -> tuple[np.ndarray, ...]:
    """Patients of ten drugs each, a judge of known quality, 200 labels."""
    whose = np.repeat(np.arange(patients), 10)
    rate = rng.beta(true * 8, (1 - true) * 8, patients)[whose]
    y = (rng.random(len(whose)) < rate).astype(float)
    scores = np.where(y == 1, rng.random(len(whose)) < s, rng.random(len(whose)) < f).astype(float)
    labels = np.full(len(whose), np.nan)
    some = rng.choice(len(whose), 200, replace=False)
    labels[some] = y[some]
    return scores, labels, np.full(len(whose), len(whose) / 200), whose


@pytest.mark.parametrize(
    ("s", "f", "true", "half"), [(0.97, 0.15, 0.65, 0.05), (0.98, 0.50, 0.65, 0.06), (0.995, 0.95, 0.65, 0.075)]
)
def test_the_corrected_interval_covers_and_is_as_narrow_as_the_judge_is_good(
    s: float, f: float, true: float, half: float
) -> None:
    rng = np.random.default_rng(5)
    found = [ppi(*world(rng, s, f, true)) for _ in range(150)]
    covered = np.mean([one.lo <= true <= one.hi for one in found if one])
    assert 0.90 <= covered <= 0.995
    assert np.mean([(one.hi - one.lo) / 2 for one in found if one]) <= half
    assert abs(np.mean([one.est for one in found if one]) - true) < 0.01


def test_a_judge_that_says_yes_to_all_is_not_believed() -> None:
    rng = np.random.default_rng(1)
    scores, labels, weights, whose = world(rng, 1.0, 1.0, 0.6)
    found = ppi(scores, labels, weights, whose)
    assert found is not None
    assert found.est == pytest.approx(np.nanmean(labels))


def test_a_judge_that_is_always_right_is_believed() -> None:
    rng = np.random.default_rng(1)
    scores, labels, weights, whose = world(rng, 1.0, 0.0, 0.6)
    found = ppi(scores, labels, weights, whose)
    assert found is not None
    assert found.lam == pytest.approx(1.0, abs=0.05)
    assert found.est == pytest.approx(scores.mean(), abs=0.005)


def test_unequal_chances_of_being_labelled_do_not_bias() -> None:
    """Judge-negatives labelled eight times as often: the weights take it back."""
    rng, misses = np.random.default_rng(2), []
    for _ in range(60):
        scores, _, _, whose = world(rng, 0.95, 0.4, 0.7)
        y = np.where(scores == 1, rng.random(len(scores)) < 0.85, rng.random(len(scores)) < 0.2).astype(float)
        chance = np.where(scores == 1, 0.02, 0.16)
        labels = np.where(rng.random(len(scores)) < chance, y, np.nan)
        found = ppi(scores, labels, 1 / chance, whose)
        assert found is not None
        misses.append(found.est - y.mean())
    assert abs(np.mean(misses)) < 0.012


@pytest.mark.parametrize("labelled", [0, 1, 19])
def test_too_few_labels_correct_nothing(labelled: int) -> None:
    labels = np.full(100, np.nan)
    labels[:labelled] = 1.0
    assert ppi(np.ones(100), labels, np.ones(100), np.arange(100)) is None


def test_the_correction_is_the_formula_worked_by_hand() -> None:
    """Two patients, λ fixed by a judge that is right by half: θ = λ f̄ + mean(y - λ f)."""
    scores = np.tile([1.0, 0.0], 20)
    labels = np.where(np.arange(40) < 20, scores, np.nan)
    found = ppi(scores, labels, np.full(40, 2.0), np.arange(40))
    assert found is not None
    assert found.est == pytest.approx(0.5)
    assert found.n == 20
