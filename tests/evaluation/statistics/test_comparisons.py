"""Comparisons: by hand, against naive loops, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evaluation.statistics.bootstrap import Draws, Mark, draw
from evaluation.statistics.comparisons import (
    against,
    all_pairs,
    best,
    clustering,
    combine,
    effects,
    failure_bounds,
    holm,
    paired,
    simultaneous,
    smallest_detectable,
)

RANKS, EPOCHS = [16] * 4 + [32] * 4, [2, 3, 4, 5] * 2


def rows(means: list[float], patients: int = 100, seed: int = 0, draws: int = 500) -> Draws:
    """Rows with these means on the same visits, with noise of their own and of the patient."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    noise = rng.normal(0, 0.1, patients)[subject][:, None] + rng.normal(0, 0.1, (len(subject), len(means)))
    return draw(subject, np.array(means) + noise - noise.mean(axis=0), draws=draws, share=False)


# --- questions ------------------------------------------------------------------------------------------------


def test_a_reference_is_compared_with_every_other_row_and_not_with_itself():
    scores = np.array([1.0, 2.0, 4.0])
    assert (against(3, 1) @ scores).tolist() == [-1.0, 2.0]


@given(st.integers(1, 9))
def test_all_pairs_are_all_and_each_once(count):
    pairs, weights = all_pairs(count)
    scores = np.arange(count) ** 2.0
    assert len(set(pairs)) == len(pairs) == count * (count - 1) // 2
    assert (weights @ scores).tolist() == [scores[i] - scores[j] for i, j in pairs]


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_effects_of_a_linear_table_are_its_coefficients(level, rank, slope, interaction):
    table = [
        level + (r == 32) * (rank + interaction * (e - 3.5)) + slope * e for r, e in zip(RANKS, EPOCHS, strict=True)
    ]
    asked = {name: float(weights @ table) for name, weights in effects(RANKS, EPOCHS).items()}
    assert asked == pytest.approx(
        {
            "rank 32 - rank 16": rank,
            "slope per epoch": slope + interaction / 2,
            "slope of rank 16": slope,
            "slope of rank 32": slope + interaction,
            "slope of rank 32 - rank 16": interaction,
        }
    )


def test_the_slope_of_four_epochs_is_the_references_formula():
    x = np.array([2, 3, 4, 5])
    np.testing.assert_allclose(effects([16] * 4, x.tolist())["slope per epoch"], (x - 3.5) / 5)


def test_a_rank_effect_asks_only_the_steps_that_both_ranks_have():
    weights = effects([8, 8, 16], [1, 2, 2])["rank 16 - rank 8"]
    assert weights.tolist() == [0, -1, 1]
    assert "rank 16 - rank 8" not in effects([8, 16], [1, 2])


def test_one_checkpoint_has_no_effects():
    assert effects([16], [3]) == {}


def test_three_ranks_are_each_compared_with_the_lowest():
    assert list(effects([8, 16, 32], [1, 1, 1])) == ["rank 16 - rank 8", "rank 32 - rank 8"]


# --- answers --------------------------------------------------------------------------------------------------


def test_a_combination_is_what_combining_the_visits_gives():
    rng = np.random.default_rng(0)
    subject, score = rng.integers(30, size=90), rng.random((90, 3))
    whole = draw(subject, score, draws=40)
    direct = draw(subject, score @ [0.5, 0.5, -1], draws=40, share=False)
    for name in ("point", "boot", "jackknife"):
        np.testing.assert_allclose(getattr(combine(whole, [0.5, 0.5, -1]), name), getattr(direct, name), atol=1e-12)


def test_an_undefined_row_spoils_only_the_combinations_that_use_it():
    den = np.ones((40, 3))
    den[:, 0] = 0
    whole = draw(np.arange(40), np.random.default_rng(0).random((40, 3)) * den, den, draws=30)
    family = simultaneous(combine(whole, all_pairs(3)[1]))
    assert family.mark == [Mark.UNDEFINED, Mark.UNDEFINED, Mark.NONE]
    assert np.isnan(family.lo).tolist() == np.isnan(family.p).tolist() == [True, True, False]


def test_max_t_follows_the_formula_where_patients_are_many():
    differences = combine(rows([0.3, 0.32, 0.3, 0.4], patients=3000), against(4, 0))
    family = simultaneous(differences)
    away = np.abs(differences.boot - differences.point) / differences.boot.std(axis=0, ddof=1)
    q = np.quantile(away.max(axis=1), 0.95)
    np.testing.assert_allclose(family.hi - family.point, q * family.se, rtol=2e-3)
    np.testing.assert_allclose(family.point - family.lo, q * family.se, rtol=2e-3)
    assert 1.96 < q < 2.6


def test_max_t_reaches_as_much_further_for_few_patients_as_a_single_interval():
    differences = combine(rows([0.3, 0.32, 0.4], patients=25), against(3, 0))
    family = simultaneous(differences)
    away = np.abs(differences.boot - differences.point) / family.se
    wanted = np.quantile(away.max(axis=1), 0.95) * differences.reach() / 1.959964 * family.se
    np.testing.assert_allclose(family.hi - family.point, wanted, rtol=1e-6)
    assert (differences.reach() > 2.1).all()


def test_simultaneous_intervals_are_wider_than_single_ones_and_a_family_of_one_is_not():
    differences = combine(rows([0.3] * 8, draws=4000), against(8, 0))
    family, single = simultaneous(differences), differences.intervals()
    assert ((family.hi - family.lo) > (single.hi - single.lo)).all()
    alone, one = simultaneous(combine(differences, np.eye(7)[0])), combine(differences, np.eye(7)[0]).intervals()
    np.testing.assert_allclose(alone.hi - alone.lo, one.hi - one.lo, rtol=0.06)


@given(st.integers(0, 30))
def test_a_difference_is_below_5_percent_exactly_where_its_interval_excludes_0(seed):
    means = np.random.default_rng(seed).normal(0.3, 0.02, 6).tolist()
    family = simultaneous(combine(rows(means, seed=seed), against(6, 0)))
    clear = np.abs(family.p - 0.05) > 0.01
    assert ((family.p < 0.05) == ((family.lo > 0) | (family.hi < 0)))[clear].all()


def test_equal_rows_differ_by_0_without_spread_and_without_a_p_value():
    subject, score = np.arange(50), np.random.default_rng(0).random(50)
    family = simultaneous(combine(draw(subject, np.column_stack([score, score])), against(2, 0)))
    assert (family.lo.tolist(), family.hi.tolist(), family.mark) == ([0.0], [0.0], [Mark.NO_SPREAD])
    assert np.isnan(family.holm).all()


def test_too_few_patients_get_no_simultaneous_interval():
    family = simultaneous(combine(rows([0.2, 0.9], patients=10), against(2, 0)))
    assert family.mark == [Mark.TOO_FEW]
    assert np.isnan([*family.lo, *family.hi, *family.p]).all()


# --- Holm -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), max_size=12))
@example([0.01, 0.04, 0.03])
def test_holm_is_the_step_down_rule(p):
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] * (len(p) - step) > level:
                break
            rejected.add(int(i))
        assert {i for i in range(len(p)) if adjusted[i] <= level} == rejected


def test_holm_does_not_charge_for_a_test_that_was_not_made():
    assert holm([0.02, np.nan, 0.5])[[0, 2]].tolist() == holm([0.02, 0.5]).tolist()
    assert np.isnan(holm([0.02, np.nan])[1])


# --- the best row ---------------------------------------------------------------------------------------------


def test_a_clear_winner_has_no_ties_and_no_optimism():
    found = best(rows([0.2, 0.25, 0.9]))
    assert (found.index, found.tied.tolist(), found.chance.tolist()) == (2, [False, False, True], [0, 0, 1])
    assert found.corrected == pytest.approx(found.raw, abs=0.01)


def test_among_equals_the_best_is_too_good_and_all_tie():
    found = best(rows([0.3] * 8))
    assert found.corrected < found.raw - 0.002
    assert found.tied.all()
    assert found.chance.sum() == pytest.approx(1)


def test_the_correction_is_the_references_formula():
    table = rows([0.3, 0.31, 0.32])
    found = best(table)
    gains = [table.boot[b, c] - table.point[c] for b, c in enumerate(table.boot.argmax(axis=1))]
    assert found.corrected == pytest.approx(table.point.max() - np.mean(gains))


def test_lower_is_better_mirrors_higher_is_better():
    table = rows([0.3, 0.28, 0.5])
    turned = Draws(-table.point, -table.boot, -table.jackknife, table.patients, table.effective, table.share)
    low, high = best(table, higher=False), best(turned)
    assert low.index == high.index == 1
    assert low.corrected == pytest.approx(-high.corrected)
    assert low.corrected > low.raw
    np.testing.assert_allclose(low.chance, high.chance)


def test_equal_firsts_share_their_chance():
    score = np.random.default_rng(0).random(50)
    assert best(draw(np.arange(50), np.column_stack([score, score]), draws=20)).chance.tolist() == [0.5, 0.5]


def test_an_undefined_row_is_neither_best_nor_tied():
    den = np.array([[0, 1, 1]] * 50)
    score = np.random.default_rng(0).random((50, 3)) * den
    found = best(draw(np.arange(50), score, den, draws=50))
    assert found.index != 0
    assert not found.tied[0]
    assert found.chance[0] == 0
    assert best(draw(np.arange(50), score[:, :1], den[:, :1], draws=50)) is None


# --- pairs, bounds, power -------------------------------------------------------------------------------------


def test_a_pair_is_compared_over_everyone_and_where_both_gave_a_list():
    scores = np.array([[0.5, 0.2], [0.9, np.nan], [np.nan, 0.4], [np.nan, np.nan], [0.3, 0.1]])
    formed = ~np.isnan(scores)
    got = paired(np.arange(5), np.nan_to_num(scores, nan=0.99), formed, [(0, 1), (1, 0)], draws=20)
    assert got.everyone.point == pytest.approx([(0.3 + 0.9 - 0.4 + 0.2) / 5, -1.0 / 5])
    assert got.both.point == pytest.approx([(0.3 + 0.2) / 2, -(0.3 + 0.2) / 2])
    assert got.both_formed.tolist() == [2, 2]


def test_pairs_that_never_both_give_a_list_have_no_difference_there():
    formed = np.arange(80).reshape(40, 2) % 2 == 0  # only the first row answers
    got = paired(np.arange(40), np.full((40, 2), 0.5), formed, [(0, 1)], draws=20)
    assert got.both_formed.tolist() == [0]
    assert got.both.marks() == [Mark.UNDEFINED]
    assert got.everyone.point == pytest.approx([0.5])


@given(st.integers(0, 50))
def test_bounds_hold_the_mean_whatever_the_failures_would_have_scored(seed):
    rng = np.random.default_rng(seed)
    score, formed = rng.random((60, 2)), rng.random((60, 2)) < 0.6
    lower, upper = failure_bounds(np.arange(60), np.where(formed, score, np.nan), formed, draws=20)
    assert (lower.point <= score.mean(axis=0)).all()
    assert (score.mean(axis=0) <= upper.point).all()
    np.testing.assert_allclose(upper.point - lower.point, 1 - formed.mean(axis=0))
    np.testing.assert_allclose(lower.point, formed.mean(axis=0) * [score[formed[:, c], c].mean() for c in (0, 1)])


def test_the_smallest_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    found = rng.normal(smallest_detectable(1.0), 1.0, 100_000) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("icc", [0.0, 0.3, 0.8])
def test_the_icc_and_the_design_effect_are_those_the_visits_were_drawn_with(icc):
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(4000), rng.integers(1, 8, 4000))
    value = rng.normal(0, icc**0.5, 4000)[subject] + rng.normal(0, (1 - icc) ** 0.5, len(subject))
    got = clustering(subject, value)
    assert got.icc == pytest.approx(icc, abs=0.03)
    measured = (draw(subject, value, draws=800).se() / draw(np.arange(len(subject)), value, draws=800).se()) ** 2
    assert got.design_effect == pytest.approx(measured[0], rel=0.15)


def test_patients_of_one_visit_each_have_no_icc():
    assert clustering(np.arange(30), np.random.default_rng(0).random(30)) is None
    assert clustering(np.repeat(np.arange(15), 2), np.ones(30)) is None
    assert clustering(np.zeros(30), np.random.default_rng(0).random(30)) is None
