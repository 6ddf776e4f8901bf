"""eGFR and potassium: the value, its age, and what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.screening import Facts, Lab, Screener
from serving.screening.kidney import ckd_epi_2021, egfr


@pytest.mark.parametrize(
    ("creatinine", "age", "sex", "expected"),
    [(1.0, 60, "M", 86), (1.0, 60, "F", 64), (0.5, 30, "F", 129), (3.0, 80, "M", 20), (3.0, 80, "F", 15)],
)
def test_egfr_follows_the_published_equation(creatinine: float, age: int, sex: str, expected: int) -> None:
    assert round(ckd_epi_2021(creatinine, age, sex)) == expected


def test_egfr_is_exact_far_from_normal() -> None:
    assert ckd_epi_2021(9.0, 40, "M") == pytest.approx(142 * 10**-1.2 * 0.9938**40)
    assert ckd_epi_2021(0.35, 40, "F") == pytest.approx(142 * 0.5**-0.241 * 0.9938**40 * 1.012)


@given(st.floats(0.2, 20), st.floats(0.2, 20), st.integers(18, 91), st.sampled_from("FM"))
def test_a_higher_creatinine_never_means_a_better_kidney(one: float, other: float, age: int, sex: str) -> None:
    low, high = sorted((one, other))
    assert ckd_epi_2021(high, age, sex) <= ckd_epi_2021(low, age, sex)


def test_a_given_egfr_comes_before_one_worked_out() -> None:
    facts = Facts(age=60, sex="M", egfr=Lab(25, 10), creatinine_mg_dl=Lab(1.0, 1))
    assert egfr(facts, 168) == Lab(25, 10)


def test_a_stale_egfr_gives_way_to_a_fresh_creatinine() -> None:
    found = egfr(Facts(age=60, sex="M", egfr=Lab(25, 400), creatinine_mg_dl=Lab(1.0, 1)), 168)
    assert isinstance(found, Lab)
    assert round(found.value) == 86


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(age=60, sex="M"), "input_missing"),
        (Facts(age=60, sex="M", creatinine_mg_dl=Lab(3.0, 169)), "stale"),
        (Facts(age=60, creatinine_mg_dl=Lab(3.0, 1)), "age_or_sex_missing"),
        (Facts(sex="F", creatinine_mg_dl=Lab(3.0, 1)), "age_or_sex_missing"),
        (Facts(age=17, sex="F", creatinine_mg_dl=Lab(3.0, 1)), "age_or_sex_missing"),
    ],
)
def test_without_a_usable_value_the_kidney_is_not_evaluated(screener: Screener, facts: Facts, reason: str) -> None:
    found = screener.screen(["metformin"], facts)
    assert found.alerts == ()
    assert "renal" not in found.evaluated
    assert ("renal", reason) in {(one.check, one.reason) for one in found.not_evaluated}


@pytest.mark.parametrize(("value", "hours", "fires"), [(5.0, 1, False), (5.1, 24, True), (5.1, 24.1, False)])
def test_potassium_fires_above_its_bound_while_it_is_fresh(
    screener: Screener, value: float, hours: float, fires: bool
) -> None:
    found = screener.screen(["potassium chloride"], Facts(potassium_mmol_l=Lab(value, hours)))
    assert bool(found.alerts) is fires
    assert ("potassium" in found.evaluated) is (hours <= 24)


@pytest.mark.parametrize(("value", "fires"), [(29.9, True), (30.0, False)])
def test_metformin_fires_below_thirty(screener: Screener, value: float, fires: bool) -> None:
    assert bool(screener.screen(["metformin (glucophage)"], Facts(egfr=Lab(value, 1))).alerts) is fires


def test_the_message_tells_the_value_and_its_age(screener: Screener) -> None:
    (alert,) = screener.screen(["metformin"], Facts(egfr=Lab(22.4, 5.6))).alerts
    assert "[eGFR 22, 6 h ago]" in alert.message.en
    assert "[eGFR 22, 6시간 전]" in alert.message.ko
