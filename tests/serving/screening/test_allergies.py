"""Recorded allergies: ingredients, declared classes, side chains, and what nobody can judge."""

from __future__ import annotations

import pytest

from serving.screening import Allergy, Facts, Screener


def fired(screener: Screener, drug: str, *substances: str) -> dict[str, str]:
    found = screener.screen([drug], Facts(allergies=tuple(map(Allergy, substances))))
    return {alert.rule_id: alert.tier for alert in found.alerts if alert.check == "allergy"}


@pytest.mark.parametrize("substance", ["Penicillins", "penicillin", "PCN", "Amoxicillin", "페니실린", "Unasyn"])
def test_a_penicillin_allergy_stops_every_penicillin(screener: Screener, substance: str) -> None:
    assert fired(screener, "Piperacillin-Tazobactam", substance)["allergy-penicillins"] == "critical"


def test_a_penicillin_allergy_says_nothing_of_other_side_chains(screener: Screener) -> None:
    assert fired(screener, "CefTRIAXone", "penicillin") == {}
    assert fired(screener, "Meropenem", "penicillin") == {}


def test_an_unnamed_penicillin_warns_of_the_shared_side_chain_and_a_named_one_stops_it(screener: Screener) -> None:
    assert fired(screener, "cephalexin", "penicillin") == {"allergy-penicillin-unspecified": "warning"}
    assert fired(screener, "cefalexin", "amoxicillin") == {"allergy-side-chain-amino": "critical"}


def test_the_same_ingredient_is_said_once_and_not_again_as_its_class(screener: Screener) -> None:
    assert fired(screener, "Ampicillin-Sulbactam", "ampicillin") == {"allergy-ingredient": "critical"}


def test_a_flush_and_an_ointment_count_for_an_allergy(screener: Screener) -> None:
    assert fired(screener, "Heparin Flush (10 units/ml)", "enoxaparin") == {"allergy-heparins": "critical"}
    assert fired(screener, "erythromycin 0.5% ophth oint", "azithromycin") == {"allergy-macrolides": "critical"}


def test_a_sulfonamide_allergy_leaves_diuretics_alone(screener: Screener) -> None:
    assert fired(screener, "Furosemide", "Sulfa (Sulfonamide Antibiotics)") == {}


def test_allergies_not_given_are_not_evaluated_and_none_recorded_are(screener: Screener) -> None:
    missing = screener.screen(["aspirin"], Facts())
    assert "allergy" not in missing.evaluated
    assert ("allergy", "input_missing") in {(one.check, one.reason) for one in missing.not_evaluated}
    assert "allergy" in screener.screen(["aspirin"], Facts(allergies=())).evaluated
    assert screener.screen(["aspirin"], Facts(allergies=(Allergy("NKDA"),))).allergies_unrecognised == ()


def test_an_allergy_to_what_is_no_drug_is_named_as_unrecognised(screener: Screener) -> None:
    found = screener.screen(["aspirin"], Facts(allergies=(Allergy("Latex"), Allergy("aspirin"))))
    assert found.allergies_unrecognised == ("Latex",)
    assert ("allergy", "not_recognised") in {(one.check, one.reason) for one in found.not_evaluated}
    assert [alert.rule_id for alert in found.alerts] == ["allergy-ingredient"]
