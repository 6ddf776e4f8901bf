"""Pregnancy and lactation: what was said, else a diagnosis, else unknown."""

from __future__ import annotations

import pytest

from etl.domain import Diagnosis
from serving.screening import Facts, Screener
from serving.screening.pregnancy import lactating, pregnant


@pytest.mark.parametrize(
    ("code", "version", "expected"),
    [
        ("O10.02", 10, True),
        ("Z33.1", 10, True),
        ("z3491", 10, True),
        ("Z3A20", 10, True),
        ("V220", 9, True),
        ("64201", 9, True),
        ("Z3009", 10, None),
        ("I10", 10, None),
        ("E8801", 9, None),
    ],
)
def test_a_code_of_pregnancy_tells_of_one(code: str, version: int, expected: bool | None) -> None:
    assert pregnant(Facts(diagnoses=(Diagnosis(code, version),), sex="F", age=30)) is expected


def test_what_was_said_outranks_a_code() -> None:
    assert pregnant(Facts(diagnoses=(Diagnosis("O1002", 10),), pregnant=False)) is False


def test_a_free_text_diagnosis_tells_nothing() -> None:
    assert pregnant(Facts(diagnoses=(Diagnosis(title="Obstructed labour"),), sex="F", age=30)) is None


@pytest.mark.parametrize(
    ("facts", "expected"), [(Facts(sex="M"), False), (Facts(sex="F", age=60), False), (Facts(sex="F", age=59), None)]
)
def test_men_and_the_old_are_not_asked(facts: Facts, expected: bool | None) -> None:
    assert pregnant(facts) is expected
    assert lactating(facts) is expected


def test_lactation_follows_its_code() -> None:
    assert lactating(Facts(diagnoses=(Diagnosis("Z39.1", 10),), sex="F", age=30)) is True


def test_an_unknown_pregnancy_is_not_evaluated(screener: Screener) -> None:
    found = screener.screen(["methotrexate"], Facts(sex="F", age=30))
    assert "pregnancy" not in found.evaluated
    assert found.alerts == ()
    assert screener.screen(["methotrexate"], Facts(sex="F", age=30, pregnant=True)).alerts[0].code == "PREG"


def test_a_skin_drug_taken_by_mouth_is_no_local_form(screener: Screener) -> None:
    assert screener.screen(["acitretin"], Facts(pregnant=True)).alerts[0].rule_id == "pregnancy-contraindicated"
