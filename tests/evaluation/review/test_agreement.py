"""Agreement: published worked examples, and what must hold whatever was answered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.review.agreement import (
    MISSING,
    Tally,
    agreement,
    cohen_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent,
    specific,
    tally,
)

ALL = {"percent": percent, "kappa": cohen_kappa, "alpha": krippendorff_alpha, "ac1": gwet_ac1}


def whole(ratings: np.ndarray, categories: int) -> Tally:
    """Everybody's answers added up, each item a patient of its own."""
    return tally(ratings, np.arange(len(ratings)), categories).resample(np.ones((1, len(ratings))))


def crossed(table: list[list[int]]) -> Tally:
    """Two raters' contingency table as answers."""
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return whole(np.array(pairs), len(table))


def observed(*raters: str) -> np.ndarray:
    """Answers written one rater a line, 1 to 5 or a letter, a dot where there is none."""
    known = sorted({answer for rater in raters for answer in rater.split() if answer != "."})
    return np.array([[known.index(a) if a != "." else MISSING for a in rater.split()] for rater in raters]).T


def test_cohens_own_example():
    """Cohen, Educ Psychol Meas 1960;20:37: three diagnoses, 200 patients, kappa .492."""
    assert cohen_kappa(crossed([[88, 14, 18], [10, 40, 10], [2, 6, 12]]))[0] == pytest.approx(0.29 / 0.59, abs=1e-12)


def test_three_by_three_table_of_the_irrcac_package():
    """cont3x3abstractors: cran.r-project.org/web/packages/irrCAC/vignettes/overview.html."""
    t = crossed([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    assert percent(t)[0] == pytest.approx(0.89)
    assert cohen_kappa(t)[0] == pytest.approx(0.7964094, abs=5e-8)
    assert krippendorff_alpha(t)[0] == pytest.approx(0.7972585, abs=5e-8)
    assert gwet_ac1(t)[0] == pytest.approx(0.8493305, abs=5e-8)


def test_krippendorffs_examples_with_and_without_gaps():
    """Computing Krippendorff's alpha-reliability (2011), A, B and C: .095, .692, .743."""
    meg, owen = "0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"
    assert krippendorff_alpha(whole(observed(meg, owen), 2))[0] == pytest.approx(0.095, abs=5e-4)
    ben, gerry = "a a b b d c c c e d d a", "b a b b b c c c e d d d"
    assert krippendorff_alpha(whole(observed(ben, gerry), 5))[0] == pytest.approx(0.692, abs=5e-4)
    assert krippendorff_alpha(whole(FOUR, 5))[0] == pytest.approx(0.743, abs=5e-4)


FOUR = observed(
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_gwets_coefficient_with_gaps():
    """The same data in irrCAC, cac.raw4raters: agreement .81818, chance .19032, AC1 .77544."""
    t = whole(FOUR, 5)
    assert percent(t)[0] == pytest.approx(0.8181818, abs=5e-7)
    assert gwet_ac1(t)[0] == pytest.approx(0.77544, abs=5e-6)


def test_skewed_answers_sink_kappa_and_not_ac1():
    """118, 5, 2 and 0 of 125: by hand, po .944, kappa's pe .94528, AC1's pe .0544."""
    t = crossed([[118, 5], [2, 0]])
    assert cohen_kappa(t)[0] == pytest.approx((0.944 - 0.94528) / (1 - 0.94528), abs=1e-9)
    assert gwet_ac1(t)[0] == pytest.approx((0.944 - 0.054432) / (1 - 0.054432), abs=1e-9)
    assert specific(t, 0)[0] == pytest.approx(2 * 118 / (2 * 118 + 5 + 2))
    assert specific(t, 1)[0] == 0


rating_tables = (
    st.integers(2, 4)
    .flatmap(
        lambda raters: st.lists(st.lists(st.integers(-1, 2), min_size=raters, max_size=raters), min_size=1, max_size=30)
    )
    .map(np.array)
)


@given(rating_tables, st.randoms(use_true_random=False))
def test_neither_the_order_of_raters_nor_of_items_nor_the_names_of_answers_matter(ratings, random):
    raters = random.sample(range(ratings.shape[1]), ratings.shape[1])
    items = random.sample(range(len(ratings)), len(ratings))
    renamed = np.array([*random.sample(range(3), 3), MISSING])
    other = renamed[ratings[items][:, raters]]
    for statistic in ALL.values():
        np.testing.assert_allclose(statistic(whole(other, 3)), statistic(whole(ratings, 3)), atol=1e-9)


@given(rating_tables)
def test_no_statistic_exceeds_one_and_raters_who_always_agree_reach_it(ratings):
    same = np.where(ratings == MISSING, MISSING, np.arange(len(ratings))[:, None] % 3)
    for name, statistic in ALL.items():
        value, best = statistic(whole(ratings, 3))[0], statistic(whole(same, 3))[0]
        assert np.isnan(value) or value <= 1 + 1e-9, name
        assert np.isnan(best) or best == pytest.approx(1), name


@given(rating_tables)
def test_an_item_with_one_answer_changes_no_agreement_but_ac1s_chance(ratings):
    single = np.full((1, ratings.shape[1]), MISSING)
    single[0, 0] = 1
    for name in ("percent", "kappa", "alpha"):
        more = ALL[name](whole(np.vstack([ratings, single]), 3))
        np.testing.assert_allclose(more, ALL[name](whole(ratings, 3)), atol=1e-9)


def test_patients_are_resampled_whole():
    """Forty items of one answer pattern a patient: the interval is that of 40 patients, not of 400 items."""
    rng = np.random.default_rng(0)
    agree = rng.random(40) < 0.7
    ratings = np.repeat(np.where(agree[:, None], [0, 0], [0, 1]), 10, axis=0)
    clustered = agreement(ratings, np.repeat(np.arange(40), 10), ("yes", "no"))["statistics"]["percent agreement"]
    naive = agreement(ratings, np.arange(400), ("yes", "no"))["statistics"]["percent agreement"]
    assert clustered["value"] == naive["value"] == agree.mean()
    wider = (clustered["hi"] - clustered["lo"]) / (naive["hi"] - naive["lo"])
    assert wider == pytest.approx(np.sqrt(10), rel=0.15)


def test_few_patients_get_no_interval():
    found = agreement(np.array([[0, 0], [0, 1]] * 30), np.arange(60) % 19, ("yes", "no"))
    assert found["patients"] == 19
    assert all(figure["lo"] is None and figure["value"] is not None for figure in found["statistics"].values())


def test_agreement_on_an_answer_that_few_patients_got_has_no_interval():
    """Ten of sixty patients have a "no": enough to tell the agreement on "yes", not that on "no"."""
    ratings = np.array([[0, 1]] * 10 + [[0, 0]] * 50)
    found = agreement(ratings, np.arange(60), ("yes", "no"))["statistics"]
    assert found["agreement on no"] == {"value": 0.0, "lo": None, "hi": None}
    assert found["agreement on yes"]["lo"] is not None


def test_one_rater_has_no_agreement():
    found = agreement(np.zeros((30, 1), dtype=np.int64), np.arange(30), ("yes", "no"))
    assert found["doubled"] == 0
    assert all(figure["value"] is None for figure in found["statistics"].values())
