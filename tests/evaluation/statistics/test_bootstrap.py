"""The bootstrap: against loops over patients, by hand, and at its edges."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.statistics.bootstrap import FEWEST_PATIENTS, Draws, Kind, Mark, clopper_pearson, draw, resamples


def visits(seed: int = 0, patients: int = 40, columns: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients of 1-5 visits whose scores resemble each other; a den is 0 now and then."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(rng.permutation(patients) + 10_000, rng.integers(1, 6, patients))
    level = rng.normal(0.5, 0.1, patients + 10_000)[subject % (patients + 10_000)]
    den = (rng.random((len(subject), columns)) < 0.8).astype(float)
    return subject, den * (level[:, None] + rng.normal(0, 0.1, den.shape)), den


# --- the draws ----------------------------------------------------------------------------------------------


def test_a_draw_is_the_metric_of_the_patients_drawn_with_all_their_visits():
    subject, num, den = visits()
    got = draw(subject, num, den, draws=25, seed=4)
    patients = np.unique(subject)
    [weights] = resamples(len(patients), 25, 4)
    for row, times in enumerate(weights):
        rows = np.concatenate(
            [np.flatnonzero(subject == p) for p, n in zip(patients, times, strict=True) for _ in range(int(n))]
        )
        np.testing.assert_allclose(got.boot[row], num[rows].sum(axis=0) / den[rows].sum(axis=0))
    np.testing.assert_allclose(got.point, num.sum(axis=0) / den.sum(axis=0))


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5), st.integers(1, 5000))
def test_the_size_of_a_block_changes_no_draw(patients, draws, seed, block_bytes):
    whole = np.concatenate(list(resamples(patients, draws, seed)))
    cut = np.concatenate(list(resamples(patients, draws, seed, block_bytes)))
    np.testing.assert_array_equal(whole, cut)
    assert whole.shape == (draws, patients)
    assert (whole.sum(axis=1) == patients).all()


def test_the_order_of_visits_and_the_other_columns_change_no_draw():
    subject, num, den = visits()
    order = np.random.default_rng(1).permutation(len(subject))
    whole = draw(subject, num, den, draws=50)
    np.testing.assert_allclose(draw(subject[order], num[order], den[order], draws=50).boot, whole.boot)
    np.testing.assert_allclose(draw(subject, num[:, 1], den[:, 1], draws=50).boot[:, 0], whole.boot[:, 1])


def test_columns_share_their_resamples_so_that_a_constant_gap_has_no_spread():
    subject, num, _ = visits()
    got = draw(subject, np.column_stack([num[:, 0], num[:, 0] + 0.25]), draws=50)
    np.testing.assert_allclose(got.boot[:, 1] - got.boot[:, 0], 0.25)


def test_one_den_for_all_columns_is_the_same_as_one_each():
    subject, num, den = visits()
    np.testing.assert_allclose(
        draw(subject, num, den[:, 0], draws=20).boot, draw(subject, num, den[:, [0, 0, 0]], draws=20).boot
    )
    np.testing.assert_allclose(draw(subject, num, draws=20).boot, draw(subject, num, np.ones_like(num), draws=20).boot)


def test_a_patient_macro_mean_counts_each_patient_once_and_leaves_out_who_has_no_visit_that_counts():
    subject = np.array([1, 1, 1, 2, 3])
    got = draw(subject, [1.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0], draws=10, patient_macro=True)
    assert got.point == pytest.approx([(2 / 3 + 1) / 2])
    assert got.patients.tolist() == [2]


def test_the_jackknife_leaves_one_patient_out_with_all_visits():
    subject, num, den = visits()
    got = draw(subject, num, den, draws=5)
    for place, patient in enumerate(np.unique(subject)):
        rest = subject != patient
        np.testing.assert_allclose(got.jackknife[place], num[rest].sum(axis=0) / den[rest].sum(axis=0))


# --- intervals ------------------------------------------------------------------------------------------------


def test_clusters_widen_the_interval_where_visits_repeat_their_patient():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(60), 5)
    score = rng.random(60)[subject]  # each patient's visits are all alike
    clustered = draw(subject, score).se()[0]
    assert clustered == pytest.approx(draw(np.arange(300), score).se()[0] * np.sqrt(5), rel=0.1)
    assert clustered == pytest.approx(score[::5].std() / np.sqrt(60), rel=0.05)


def test_plain_percentiles_are_numpys():
    got = draw(*visits(), draws=400)
    interval = got.intervals(Kind.PLAIN)
    np.testing.assert_allclose([interval.lo, interval.hi], np.nanquantile(got.boot, [0.025, 0.975], axis=0))


@pytest.mark.parametrize("patients", [25, 50, 400])
def test_intervals_reach_further_than_the_textbooks_the_fewer_patients_tell(patients):
    got = draw(*visits(patients=patients))
    plain, ours = got.intervals(Kind.PLAIN), got.intervals()
    assert (ours.lo < plain.lo).all()
    assert (ours.hi > plain.hi).all()
    assert (got.effective <= got.patients).all()
    ratio = (ours.hi - ours.lo) / (plain.hi - plain.lo)
    assert (ratio < {25: 1.35, 50: 1.15, 400: 1.02}[patients]).all()


def test_with_equal_patients_the_reach_is_students_t_for_the_divisor_n_minus_1():
    from scipy.stats import t

    got = draw(np.repeat(np.arange(30), 2), np.zeros(60), draws=10)
    assert got.reach() == pytest.approx([np.sqrt(30 / 29) * t.ppf(0.975, 29)])
    assert got.reach(0.9) == pytest.approx([np.sqrt(30 / 29) * t.ppf(0.95, 29)])


def test_the_effective_number_is_the_number_where_all_patients_have_as_many_visits():
    assert draw(np.repeat(np.arange(30), 4), np.zeros(120)).effective == pytest.approx([30])
    lopsided = draw(np.r_[np.zeros(100), np.arange(1, 30)], np.zeros(129))
    assert lopsided.effective[0] == pytest.approx(129**2 / (100**2 + 29))


def test_bca_agrees_with_scipy_on_a_skewed_mean():
    from scipy.stats import bootstrap

    score = np.random.default_rng(2).lognormal(size=80)
    got = draw(np.arange(80), score, draws=30_000, share=False)
    textbook = Draws(got.point, got.boot, got.jackknife, np.array([10**9]), np.array([1e9]), got.share)
    interval = textbook.intervals(Kind.BCA)
    wanted = bootstrap(
        (score,), np.mean, n_resamples=30_000, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert interval.lo[0] == pytest.approx(wanted.low, rel=0.01)
    assert interval.hi[0] == pytest.approx(wanted.high, rel=0.015)
    assert interval.hi[0] > textbook.intervals().hi[0]  # a long right tail moves it right


@given(st.floats(0.5, 0.99), st.integers(0, 20))
def test_a_higher_level_is_never_narrower_and_holds_the_middle(level, seed):
    got = draw(*visits(seed), draws=200)
    for kind in Kind:
        less, more = got.intervals(kind, level), got.intervals(kind, 0.995)
        assert (more.lo <= less.lo).all()
        assert (less.lo <= less.hi).all()
        assert (less.hi <= more.hi).all()


# --- edges ----------------------------------------------------------------------------------------------------


def test_a_draw_in_which_no_visit_counts_is_left_out_and_counted():
    subject = np.arange(40)
    den = np.zeros((40, 1))
    den[:1] = 1  # a draw misses the one patient in 36 % of cases
    got = draw(subject, den * 0.5, den, draws=1000)
    missed = int(np.isnan(got.boot).sum())
    assert 0.3 < missed / 1000 < 0.43
    assert got.intervals().undefined.tolist() == [missed]


@pytest.mark.parametrize(("value", "ends"), [(0.0, (0.0, 0.0596)), (1.0, (0.9404, 1.0))])
def test_all_0_and_all_1_get_the_exact_interval_of_their_patients(value, ends):
    subject = np.repeat(np.arange(60), 3)
    interval = draw(subject, np.full(180, value)).intervals()
    assert interval.mark == [Mark.EXACT]
    assert (interval.lo[0], interval.hi[0]) == pytest.approx(ends, abs=1e-4)


def test_a_constant_that_is_no_share_is_its_own_interval():
    interval = draw(np.arange(30), np.column_stack([np.full(30, 10.0), np.zeros(30)]), share=[False, False]).intervals()
    assert interval.mark == [Mark.NO_SPREAD] * 2
    assert (interval.lo == interval.hi).all()


@pytest.mark.parametrize("patients", [1, FEWEST_PATIENTS - 1])
def test_few_patients_have_a_point_and_no_interval(patients):
    subject = np.repeat(np.arange(patients), 50)
    interval = draw(subject, np.arange(50.0 * patients) / 1000, draws=50).intervals()
    assert interval.mark == [Mark.TOO_FEW]
    assert np.isnan([interval.lo[0], interval.hi[0]]).all()
    assert not np.isnan(interval.point[0])


def test_only_patients_with_a_visit_that_counts_are_counted():
    den = np.zeros((100, 2))
    den[:19, 0] = den[:20, 1] = 1
    score = np.random.default_rng(0).random((100, 1))
    assert draw(np.arange(100), score * den, den).intervals().mark == [Mark.TOO_FEW, Mark.NONE]


@pytest.mark.filterwarnings("error")
def test_a_column_where_nothing_counts_is_undefined_and_not_0():
    subject, num, den = visits()
    den[:, 1] = num[:, 1] = 0
    got = draw(subject, num, den, draws=30)
    for kind in Kind:
        interval = got.intervals(kind)
        assert interval.mark == [Mark.NONE, Mark.UNDEFINED, Mark.NONE]
        assert np.isnan([interval.point[1], interval.lo[1], interval.hi[1], interval.se[1]]).all()
        assert interval.undefined.tolist() == [0, 30, 0]


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_and_pearsons_ends_leave_a_fortieth_of_the_binomial_outside(counted):
    from scipy.stats import binom

    successes, trials = counted
    lo, hi = clopper_pearson(successes, trials)
    assert 0 <= lo <= successes / trials <= hi <= 1
    assert binom.sf(successes - 1, trials, lo) == pytest.approx(0.025, rel=1e-6) or successes == 0
    assert binom.cdf(successes, trials, hi) == pytest.approx(0.025, rel=1e-6) or successes == trials


def test_clopper_and_pearson_on_the_decoys_of_the_reference():
    ends = [clopper_pearson(90, 100), clopper_pearson(360, 400), clopper_pearson(0, 73)]
    assert [(round(lo, 2), round(hi, 2)) for lo, hi in ends] == [(0.82, 0.95), (0.87, 0.93), (0.0, 0.05)]
    assert clopper_pearson(0, 71)[1] > 0.05 > clopper_pearson(0, 73)[1]


@given(hnp.arrays(float, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(0, 1)), st.integers(1, 10))
def test_every_interval_of_a_share_lies_in_0_to_1(scores, per_patient):
    interval = draw(np.arange(len(scores)) // per_patient, scores, draws=60).intervals()
    ends = np.array([interval.lo, interval.hi])
    known = ends[~np.isnan(ends)]
    assert ((known >= -1e-12) & (known <= 1 + 1e-12)).all()


def test_eight_cells_of_twenty_metrics_take_well_under_a_second():
    rng = np.random.default_rng(0)
    subject, num = rng.integers(350, size=1000), rng.random((1000, 160))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        draw(subject, num, rng.random((1000, 160)) < 0.7).intervals()
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1


def test_blocks_hold_no_more_than_their_bytes():
    sizes = [block.nbytes for block in resamples(7000, 50, 0, block_bytes=8 * 7000 * 8)]
    assert max(sizes) == 8 * 7000 * 8
    assert all(first >= second for first, second in pairwise(sizes))
