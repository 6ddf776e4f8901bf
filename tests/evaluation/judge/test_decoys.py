"""Decoys are what they say: wrong for their patient, of no class the chart knows, invented, reproducible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.drug_vocabulary import read_drug_vocabulary
from evaluation.interactions import read_interactions
from evaluation.judge.decoys import Decoys, Kind, _rules, known_ingredients
from evaluation.judge.items import Charts, Unit, read_charts, read_drafts
from evaluation.judge.plan import in_hidden_order, make_plan

VOCABULARY = read_drug_vocabulary()


@pytest.fixture(scope="module")
def charts(open_cohort: Path) -> Charts:
    return read_charts(open_cohort, "train")


def classes(charts: Charts, drugs: list[str]) -> set[str]:
    return {code[:5] for drug in drugs for code in charts.vocabulary.look_up(drug).atc}


@pytest.mark.parametrize("kind", [Kind.POSITIVE, Kind.CHART_SWAP, Kind.FICTITIOUS, Kind.SEX])
def test_a_longer_run_asks_what_a_shorter_one_asked_and_more(kind: Kind, charts: Charts) -> None:
    some, more = Decoys(charts).draw(kind, 10), Decoys(charts).draw(kind, 25)
    assert more[:10] == some
    assert len(set(more)) == 25


@pytest.mark.parametrize("kind", [Kind.POSITIVE, Kind.CHART_SWAP, Kind.FICTITIOUS])
def test_decoys_are_spread_over_the_patients(kind: Kind, charts: Charts) -> None:
    drawn = Decoys(charts).draw(kind, 40)
    assert len({charts.subject(unit.hadm_id) for unit in drawn}) >= 20


def test_another_seed_draws_others(charts: Charts) -> None:
    assert Decoys(charts, 0).draw(Kind.POSITIVE, 20) != Decoys(charts, 1).draw(Kind.POSITIVE, 20)


def test_positive_controls_were_ordered(charts: Charts) -> None:
    for unit in Decoys(charts).draw(Kind.POSITIVE, 200):
        assert unit.drug in {charts.label(drug) for drug in charts.samples[unit.hadm_id]["drugs"]}


def test_swapped_drugs_are_of_no_class_the_chart_or_its_orders_know(charts: Charts) -> None:
    drawn = Decoys(charts).draw(Kind.CHART_SWAP, 200)
    assert len(drawn) == 200
    harmless = tuple(row["atc"] for row in _rules("harmless"))
    for unit in drawn:
        sample = charts.samples[unit.hadm_id]
        known = [*sample["drugs"], *(sample["previous_drugs"] or [])]
        swapped = unit.drug.split(" and ")
        assert unit.drug not in {charts.label(drug) for drug in known}
        assert not classes(charts, swapped) & classes(charts, known)
        codes = charts.vocabulary.look_up(unit.drug).atc
        assert not [code for code in codes if code.startswith(harmless)]


def test_swapped_drugs_are_as_common_as_true_ones_that_could_be_swapped(charts: Charts) -> None:
    """A rare drug is easy to reject for being rare."""
    decoys = Decoys(charts)
    stays = decoys._swappable()
    true = [len(stays[unit.drug]) for unit in decoys.draw(Kind.POSITIVE, 400) if unit.drug in stays]
    swapped = [len(stays[unit.drug]) for unit in decoys.draw(Kind.CHART_SWAP, 200)]
    assert sum(swapped) / len(swapped) == pytest.approx(sum(true) / len(true), rel=0.35)


def test_invented_names_mean_nothing_and_look_like_no_drug(charts: Charts) -> None:
    drawn = Decoys(charts).draw(Kind.FICTITIOUS, 100)
    names = {unit.drug for unit in drawn}
    assert len(names) == 100
    assert not names & set(known_ingredients())
    assert not [name for name in names if VOCABULARY.look_up(name).ingredients]


def test_the_wrong_sex_is_the_wrong_one(charts: Charts) -> None:
    wrong = {(row["drug"], row["wrong_for"]) for row in _rules("sex")}
    for unit in Decoys(charts).draw(Kind.SEX, 50):
        assert (unit.drug, charts.samples[unit.hadm_id]["sex"]) in wrong


def test_every_rule_names_a_drug_of_the_vocabulary_and_its_source() -> None:
    for table in ("sex", "organ"):
        for row in _rules(table):
            assert row["source"]
            for part in row["drug"].split(" and "):
                assert VOCABULARY.look_up(part).ingredients == (part,), part


SAMPLE: dict[str, Any] = {
    "subject_id": 1,
    "hadm_id": 11,
    "age": 60,
    "sex": "M",
    **dict.fromkeys(("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")),
    "creatinine_mg_dl": 3.0,
    "egfr": 22.0,
    "potassium_meq_l": 4.0,
    "diagnoses": [{"icd_code": "N179", "icd_version": 10, "title": "Acute kidney failure"}],
    "earlier_diagnoses": None,
    "previous_drugs": None,
    "current_drugs": ["warfarin", "acetaminophen iv"],
    "drugs": ["heparin", "acetaminophen"],
}


def chart_of(**changed: Any) -> Charts:
    return Charts(pl.DataFrame([{**SAMPLE, **changed}], infer_schema_length=None), VOCABULARY)


def test_failed_organs_come_from_the_laboratory_and_the_chart_shows_it() -> None:
    charts = chart_of()
    drawn = {unit.drug for unit in Decoys(charts).draw(Kind.ORGAN, 50)}
    assert {"metformin", "ketorolac"} <= drawn
    assert drawn.isdisjoint({"spironolactone", "dofetilide"})  # potassium 4.0, eGFR above 15
    assert "eGFR: 22.0 mL/min/1.73 m2" in charts.render(11)


@pytest.mark.parametrize(("egfr", "potassium"), [(None, None), (30.0, 5.5), (90.0, 4.0)])
def test_healthy_or_unknown_organs_make_no_decoy(egfr: float | None, potassium: float | None) -> None:
    assert Decoys(chart_of(egfr=egfr, potassium_meq_l=potassium)).draw(Kind.ORGAN, 50) == []


def test_a_drug_that_was_ordered_all_the_same_is_no_clear_mistake() -> None:
    drawn = {unit.drug for unit in Decoys(chart_of(drugs=["metformin"])).draw(Kind.ORGAN, 50)}
    assert "metformin" not in drawn
    assert "ketorolac" in drawn


def test_a_duplicate_is_being_given_already_and_was_not_ordered_again() -> None:
    assert Decoys(chart_of()).draw(Kind.DUPLICATE, 9) == [Unit(11, "warfarin")]
    assert Decoys(chart_of(current_drugs=None)).draw(Kind.DUPLICATE, 9) == []


def test_interacting_drugs_meet_one_on_the_chart() -> None:
    other = {
        **SAMPLE,
        "subject_id": 2,
        "hadm_id": 12,
        "drugs": ["lovastatin", "ondansetron"],
        "current_drugs": ["senna"],
    }
    given = {**SAMPLE, "current_drugs": ["amiodarone"]}
    charts = Charts(pl.DataFrame([given, other], infer_schema_length=None), VOCABULARY)
    known = read_interactions(VOCABULARY)
    assert Decoys(charts, interactions=known).draw(Kind.INTERACTION, 9) == [Unit(11, "lovastatin")]
    assert Decoys(charts).draw(Kind.INTERACTION, 9) == []


def test_the_kinds_cannot_be_told_from_the_order_of_questions(evaluation: Path, charts: Charts) -> None:
    plan = make_plan(read_drafts(evaluation, charts), charts, Decoys(charts), 0.3)
    order = [kind for _, kind in in_hidden_order(plan.kinds(), 0)]
    decoys = [place for place, kind in enumerate(order) if kind != "draft"]
    assert sum(decoys) / len(decoys) == pytest.approx(len(order) / 2, rel=0.15)


def test_decoys_are_the_share_asked_for_where_the_data_can_fill_it(evaluation: Path, charts: Charts) -> None:
    drafts = read_drafts(evaluation, charts)
    plan = make_plan(drafts, charts, Decoys(charts), 0.15)
    made = sum(map(len, plan.decoys.values())) + sum(len(swap.drugs) for swap in plan.swaps)
    drafted = len(plan.drafted)
    assert 0.11 <= made / (made + drafted) <= 0.18
    assert len(plan.retests) / drafted == pytest.approx(0.05, abs=0.01)
    assert make_plan(drafts, charts, Decoys(charts), 0.0).kinds() == dict.fromkeys(plan.drafted, "draft")


def test_a_swapped_list_lies_under_another_patients_chart(evaluation: Path, charts: Charts) -> None:
    plan = make_plan(read_drafts(evaluation, charts), charts, Decoys(charts), 0.3)
    assert plan.swaps
    for swap in plan.swaps:
        assert charts.subject(swap.hadm_id) != charts.subject(swap.other_hadm_id)


def test_a_unit_is_named_by_what_is_asked_and_not_by_why() -> None:
    names = {unit.item_id for unit in (Unit(1, "a"), Unit(2, "a"), Unit(1, "b"), Unit(1, "a", 1))}
    assert len(names) == 4
    assert Unit(1, "a").item_id == Unit(1, "a").item_id


def test_drugs_are_asked_by_ingredient_and_unknown_names_as_written(charts: Charts) -> None:
    assert charts.label("Acetaminophen IV") == "acetaminophen"
    assert charts.label("zorblax 5") == "zorblax 5"
