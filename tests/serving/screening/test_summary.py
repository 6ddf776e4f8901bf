"""The sentence that sums a screening up never says more than was looked at."""

from __future__ import annotations

from serving.screening import Allergy, Facts, Lab, Screener


def test_a_silent_screening_tells_what_it_did_not_look_at(screener: Screener) -> None:
    found = screener.screen(["acetaminophen", "adde"], Facts(sex="M", age=50, current_drugs=()))
    assert found.summary.en == (
        "No rule fired. 1 of 2 drugs screened; evaluated: high-priority interactions, QT prolongation, "
        "other interactions, duplicates, pregnancy, lactation, age, current orders; not evaluated: "
        "allergies (not given), kidney function (not given), potassium (not given)."
    )
    assert found.summary.ko == (
        "해당 규칙 없음. 약물 2개 중 1개 점검; 평가: 고위험 상호작용, QT 연장, 기타 상호작용, 중복 처방, 임신, 수유, "
        "연령, 현재 처방; 미평가: 알레르기(정보 없음), 신기능(정보 없음), 칼륨(정보 없음)."
    )


def test_alerts_are_counted_by_tier(screener: Screener) -> None:
    facts = Facts(allergies=(Allergy("penicillin"),), age=80, egfr=Lab(20, 1))
    found = screener.screen(["ampicillin", "metformin", "lorazepam"], facts)
    assert found.summary.en.startswith("Alerts: 1 critical, 1 warning, 1 note. 3 of 3 drugs screened")
    assert found.summary.ko.startswith("알림: 심각 1건, 경고 1건, 참고 1건. 약물 3개 중 3개 점검")


def test_several_alerts_of_a_tier_are_told_as_several(screener: Screener) -> None:
    facts = Facts(current_drugs=("warfarin",), allergies=(Allergy("penicillin"),), potassium_mmol_l=Lab(5.6, 1))
    found = screener.screen(["ampicillin", "heparin", "potassium chloride"], facts)
    assert found.summary.en.startswith("Alerts: 1 critical, 2 warnings. 3 of 3 drugs screened")


def test_no_drugs_give_no_alert_and_still_a_sentence(screener: Screener) -> None:
    found = screener.screen([], Facts())
    assert found.alerts == ()
    assert found.summary.en.startswith("No rule fired. 0 of 0 drugs screened")
