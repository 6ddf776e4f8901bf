"""What holds of every screening, whichever drugs and facts it is given."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.domain import Diagnosis
from etl.drugs import normalise_drug
from serving.screening import Alert, Allergy, Facts, Lab, Screener, Screening

SCREENER = Screener()
OTHERS = (
    "Heparin Flush (10 units/ml)",
    "Percocet",
    "Bactrim DS",
    "erythromycin 0.5% ophth oint",
    "Insulin Glargine",
    "n02aa",
    "adde",
    "potassium chloride",
    "rifampicin",
    "lopinavir-ritonavir",
    "LORazepam",
)
EXAMPLES = {name for rule in SCREENER.rules() if rule.fires for name in rule.fires.proposed}
DRUGS = [*sorted(EXAMPLES), *OTHERS]
lists = st.lists(st.sampled_from(DRUGS), max_size=12)
labs = st.builds(Lab, st.floats(0.1, 150), st.floats(0, 400))
patients = st.builds(
    Facts,
    current_drugs=st.none() | lists.map(tuple),
    allergies=st.none()
    | st.lists(st.sampled_from(["penicillin", "Motrin", "sulfa", "cats", "NKDA", "heparin"]), max_size=3).map(
        lambda names: tuple(map(Allergy, names))
    ),
    diagnoses=st.sampled_from([(), (Diagnosis("O1002", 10),), (Diagnosis("I10", 10),)]),
    age=st.none() | st.integers(18, 91),
    sex=st.sampled_from([None, "F", "M"]),
    pregnant=st.sampled_from([None, True, False]),
    lactating=st.sampled_from([None, True, False]),
    creatinine_mg_dl=st.none() | labs,
    egfr=st.none() | labs,
    potassium_mmol_l=st.none() | labs,
)


def said(alert: Alert) -> tuple[str, str]:
    """What an alert speaks of, whichever drugs take part; drugs that share two ingredients may come to share one."""
    if alert.rule_id == "duplicate-ingredient":
        return alert.rule_id, ""
    about = alert.message.en.partition("[")[2].partition("]")[0]
    return alert.rule_id, about


def with_current(facts: Facts, names: list[str]) -> Facts:
    return Facts(
        **{field: getattr(facts, field) for field in facts.__dataclass_fields__} | {"current_drugs": tuple(names)}
    )


@given(lists, patients, st.randoms())
def test_the_order_of_a_list_changes_nothing(proposed: list[str], facts: Facts, random: Random) -> None:
    shuffled, current = proposed[:], list(facts.current_drugs or ())
    random.shuffle(shuffled)
    random.shuffle(current)
    other = with_current(facts, current) if facts.current_drugs is not None else facts
    assert SCREENER.screen(shuffled, other) == SCREENER.screen(proposed, facts)


@given(lists, patients, st.sampled_from(DRUGS), st.booleans())
def test_another_drug_takes_no_alert_away(proposed: list[str], facts: Facts, drug: str, ordered: bool) -> None:
    before = SCREENER.screen(proposed, facts).alerts
    more = with_current(facts, [*(facts.current_drugs or ()), drug]) if ordered else facts
    after = SCREENER.screen(proposed if ordered else [*proposed, drug], more).alerts
    for alert in before:
        assert any(
            said(alert) == said(other)
            and alert.tier == other.tier
            and set(alert.drugs) <= set(other.drugs)
            and set(alert.current) <= set(other.current)
            for other in after
        )


@given(lists, patients)
def test_a_drug_named_twice_is_one_drug(proposed: list[str], facts: Facts) -> None:
    once = SCREENER.screen(proposed, facts)
    assert SCREENER.screen(proposed * 2, facts) == once
    assert SCREENER.screen(proposed, facts) == once
    assert once.drugs_total == len({normalise_drug(name) for name in proposed})


@given(st.sampled_from(DRUGS), st.sampled_from(DRUGS))
def test_a_pair_fires_whichever_of_the_two_is_proposed(one: str, other: str) -> None:
    def fired(proposed: str, current: str) -> set[str]:
        return {alert.rule_id for alert in SCREENER.screen([proposed], Facts(current_drugs=(current,))).alerts}

    assert fired(one, other) == fired(other, one)


@given(st.sampled_from(DRUGS))
def test_no_ingredient_interacts_with_itself(drug: str) -> None:
    alerts = SCREENER.screen([drug, f"{drug} *NF*"], Facts(current_drugs=(drug.upper(),))).alerts
    assert {alert.code for alert in alerts} <= {"DUPTHPY"}


@given(lists, patients)
def test_an_alert_concerns_a_proposed_drug_and_is_numbered_by_severity(proposed: list[str], facts: Facts) -> None:
    found = SCREENER.screen(proposed, facts)
    tiers = ["critical", "warning", "info"]
    assert [alert.alert_id for alert in found.alerts] == [f"a{n}" for n in range(1, len(found.alerts) + 1)]
    assert [tiers.index(alert.tier) for alert in found.alerts] == sorted(tiers.index(a.tier) for a in found.alerts)
    for alert in found.alerts:
        assert alert.drugs
        assert set(alert.drugs) <= set(proposed)
        assert set(alert.current) <= set(facts.current_drugs or ())
        assert SCREENER.rule(alert.rule_id) is not None
    assert len({(*said(a), a.drugs) for a in found.alerts}) == len(found.alerts)


@given(lists, patients)
@settings(max_examples=50)
def test_a_screening_survives_its_json(proposed: list[str], facts: Facts) -> None:
    found = SCREENER.screen(proposed, facts)
    assert Screening.model_validate_json(found.model_dump_json()) == found
    assert json.loads(found.model_dump_json())["rules_version"] == SCREENER.version


def test_an_unknown_drug_is_named_and_not_counted_as_screened() -> None:
    found = SCREENER.screen(["adde", "aspirin", "n02aa"], Facts(current_drugs=("digox",)))
    assert (found.drugs_total, found.drugs_screened) == (3, 1)
    assert found.unscreened == ("adde", "n02aa")
    assert found.current_unscreened == ("digox",)


def test_every_spelling_of_a_proposed_drug_is_in_its_alert() -> None:
    """A caller finds its rows by what it wrote."""
    found = SCREENER.screen(["Simvastatin", "simvastatin", "clarithromycin"], Facts())
    assert found.drugs_total == 2
    assert found.alerts[0].drugs == ("clarithromycin", "Simvastatin", "simvastatin")
    assert found.alerts[0].message.en.startswith("clarithromycin, Simvastatin – ")


def test_what_is_wrong_among_the_current_orders_alone_is_not_repeated() -> None:
    found = SCREENER.screen(["acetaminophen"], Facts(current_drugs=("simvastatin", "clarithromycin")))
    assert found.alerts == ()


def test_an_alert_leaves_out_orders_that_no_proposed_drug_meets() -> None:
    found = SCREENER.screen(["morphine sulfate"], Facts(current_drugs=("oxycodone", "lorazepam")))
    pair = next(alert for alert in found.alerts if alert.rule_id == "opioid-benzodiazepine")
    assert (pair.drugs, pair.current) == (("morphine sulfate",), ("lorazepam",))


def test_a_form_that_stays_in_the_eye_interacts_with_nothing() -> None:
    assert SCREENER.screen(["simvastatin", "erythromycin 0.5% ophth oint"], Facts()).alerts == ()
    assert SCREENER.screen(["simvastatin", "erythromycin"], Facts()).alerts[0].tier == "critical"


def test_an_international_spelling_is_the_same_drug() -> None:
    def fired(drug: str) -> list[str]:
        return [alert.rule_id for alert in SCREENER.screen([drug, "phenelzine"], Facts()).alerts]

    assert fired("Pethidine 50mg") == fired("meperidine") == ["onc-16"]


def test_an_atc_group_is_screened_by_class_and_said_to_be_unscreened() -> None:
    found = SCREENER.screen(["n02aa", "n05ba"], Facts())
    assert [alert.rule_id for alert in found.alerts] == ["opioid-benzodiazepine"]
    assert found.drugs_screened == 0


@pytest.mark.demo_data
def test_nearly_every_order_of_the_demo_is_screened(mimic_demo: Path) -> None:
    orders = pl.read_csv(mimic_demo / "hosp" / "prescriptions.csv.gz", infer_schema_length=0)
    names = orders.filter(pl.col("drug_type") == "MAIN")["drug"]
    unscreened = SCREENER.screen(names.unique().to_list(), Facts()).unscreened
    assert names.is_in(list(unscreened)).sum() < 0.001 * len(names)


@pytest.mark.demo_data
def test_critical_alerts_are_rare_on_the_demo(mimic_demo: Path) -> None:
    orders = pl.read_csv(mimic_demo / "hosp" / "prescriptions.csv.gz", infer_schema_length=0)
    stays = orders.filter(pl.col("drug_type") == "MAIN").group_by("hadm_id").agg(pl.col("drug").unique())
    found = [SCREENER.screen(drugs, Facts()).alerts for drugs in stays["drug"].to_list()]
    assert sum(any(alert.tier == "critical" for alert in alerts) for alerts in found) / len(found) < 0.05
    assert sum(sum(alert.tier == "warning" for alert in alerts) for alerts in found) / len(found) < 2.5
