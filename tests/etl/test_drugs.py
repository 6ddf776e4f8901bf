from __future__ import annotations

import csv
import gzip
import random
import re
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.drugs import normalise_drug, normalise_drugs
from etl.synth import misspell, read_hospital

any_text = st.text() | st.text(st.sampled_from("aZß\u0130\ufb01\u0345 _*,;:|nNfF\t\u00a0\u200b½%0.9-"))
model_drugs = sorted({drug for disease in read_hospital(0).diseases for drug, _, _ in disease.treatments})


@given(any_text)
@example("*N*NF*F* x")
@example("*nf**nf*")
@example("\u0345\u0391")
def test_folding_twice_changes_nothing(raw):
    assert normalise_drug(normalise_drug(raw)) == normalise_drug(raw)


@given(any_text)
@example("*n*nf*f* x")
def test_no_case_no_stray_space_and_no_mark_is_left(raw):
    name = normalise_drug(raw)
    assert name == name.casefold()
    assert name == " ".join(name.split())
    assert "*nf*" not in name
    assert name.isprintable()
    assert not name or (name[0] not in " _*,;:|" and name[-1] not in " _*,;:|")


@given(st.text(st.characters(codec="ascii")))
def test_case_makes_no_other_drug(raw):
    assert normalise_drug(raw.upper()) == normalise_drug(raw.lower()) == normalise_drug(raw.title())


@given(any_text, st.sampled_from([" ", "\t", "\u00a0", "  "]))
def test_outer_and_doubled_space_make_no_other_drug(raw, space):
    name = normalise_drug(raw)
    assert normalise_drug(f"{space}{raw}{space}") == name
    assert normalise_drug(name.replace(" ", f" {space}")) == name


@given(any_text)
def test_the_non_formulary_mark_in_front_makes_no_other_drug(raw):
    assert normalise_drug(f"*NF* {raw}") == normalise_drug(f"*nf*{raw}") == normalise_drug(f" {raw}")


def test_there_are_synthetic_drugs_to_misspell():
    assert len(model_drugs) > 120
    written = {
        row["drug"] for t in ("classes", "treatments") for row in rows(t) if not row["drug"].startswith("class:")
    }
    assert written >= set(model_drugs), "a drug of the model is not written as its canonical name"


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("etl") / "synthetic" / f"{table}.csv").read_text("utf-8").splitlines()))


@pytest.mark.parametrize("drug", model_drugs)
def test_every_synthetic_drug_survives_misspelling(drug):
    draw = random.Random(drug)
    spellings = {misspell(draw, drug) for _ in range(600)}
    assert len(spellings) >= 5
    assert {normalise_drug(spelling) for spelling in spellings} == {drug}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sodium Chloride 0.9%", "Sodium Chloride 23.4%"),
        ("Sodium Chloride 0.9%", "Sodium Chloride 0.45%"),
        ("Sodium Chloride 0.9%", "Sodium Chloride 0.9%  Flush"),
        ("Vitamin B-12", "Vitamin B"),
        ("Vitamin B-12", "Vitamin B-6"),
        ("Insulin 70/30", "Insulin"),
        ("Heparin Flush (10 units/ml)", "Heparin Flush (100 units/ml)"),
        ("OxycoDONE (Immediate Release) ", "OxycoDONE"),
    ],
)
def test_numbers_and_brackets_keep_drugs_apart(one, other):
    assert normalise_drug(one) != normalise_drug(other)
    assert re.sub(r"\s+", " ", one.strip().lower()) == normalise_drug(one)


@given(st.lists(any_text))
def test_a_list_keeps_its_order_and_each_drug_once(raw):
    names = normalise_drugs(raw)
    assert len(set(names)) == len(names)
    assert "" not in names
    assert set(names) == {normalise_drug(name) for name in raw} - {""}
    firsts = [[normalise_drug(r) for r in raw].index(name) for name in names]
    assert firsts == sorted(firsts)


@pytest.mark.demo_data
def test_the_demo_orders_551_drugs(mimic_demo):
    with gzip.open(mimic_demo / "hosp" / "prescriptions.csv.gz", "rt", encoding="utf-8", newline="") as file:
        spellings = {row["drug"] for row in csv.DictReader(file) if row["drug_type"] == "MAIN"}
    folded = {normalise_drug(spelling) for spelling in spellings}
    assert len(folded) == 551
    assert "" not in folded
    assert not {name for name in folded if "*" in name or name != name.lower()}
