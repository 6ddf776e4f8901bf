"""One drug twice: what counts, and what is ordered twice on purpose."""

from __future__ import annotations

import pytest

from serving.screening import Facts, Screener


def fired(screener: Screener, *drugs: str, current: tuple[str, ...] = ()) -> list[str]:
    found = screener.screen(drugs, Facts(current_drugs=current))
    return [alert.rule_id for alert in found.alerts if alert.check == "duplicate"]


@pytest.mark.parametrize(
    "drugs",
    [
        ("insulin glargine", "insulin"),
        ("insulin", "insulin (regular) for hyperkalemia"),
        ("heparin", "heparin flush"),
        ("oxycodone (immediate release)", "oxycodone sr (oxycontin)"),
        ("morphine sulfate", "hydromorphone (dilaudid)"),
        ("potassium chloride", "potassium chloride replacement (critical care and oncology)"),
        ("sodium chloride 0.9% flush", "sodium chloride"),
        ("aspirin", "clopidogrel"),
        ("albuterol 0.083% neb soln", "ipratropium-albuterol neb"),
        ("senna", "docusate sodium", "docusate sodium (liquid)", "lactulose"),
        ("lidocaine 5% patch", "lidocaine 1%"),
    ],
)
def test_what_is_ordered_together_on_purpose_is_no_duplicate(screener: Screener, drugs: tuple[str, ...]) -> None:
    assert fired(screener, *drugs) == []


def test_acetaminophen_hidden_in_a_combination_counts(screener: Screener) -> None:
    assert fired(screener, "oxycodone-acetaminophen (5mg-325mg)", current=("Acetaminophen IV",)) == [
        "duplicate-ingredient"
    ]


def test_all_drugs_of_one_ingredient_make_one_alert(screener: Screener) -> None:
    assert fired(screener, "acetaminophen", "acetaminophen iv", "tylenol", "percocet") == ["duplicate-ingredient"]


def test_two_shared_ingredients_make_one_alert_that_names_both(screener: Screener) -> None:
    (alert,) = screener.screen(["Bactrim DS", "sulfameth/trimethoprim ss"], Facts()).alerts
    assert "[sulfamethoxazole, trimethoprim]" in alert.message.en


def test_the_same_name_already_ordered_is_info_alone(screener: Screener) -> None:
    found = screener.screen(["Furosemide"], Facts(current_drugs=("furosemide",)))
    assert [(alert.rule_id, alert.tier) for alert in found.alerts] == [("duplicate-ordered", "info")]


def test_two_members_of_a_class_are_named_with_it(screener: Screener) -> None:
    (alert,) = screener.screen(["omeprazole", "pantoprazole"], Facts()).alerts
    assert alert.rule_id == "duplicate-class"
    assert "proton pump inhibitors" in alert.message.en
    assert "프로톤펌프억제제" in alert.message.ko
