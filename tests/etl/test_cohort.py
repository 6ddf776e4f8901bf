"""A cohort as its readers meet it, and five stays of the open demo followed from the raw files to their samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.build import build_cohort
from etl.cohort import (
    MEASUREMENTS,
    SPLITS,
    read_cohort,
    read_prompts,
    read_samples,
    to_admission,
)
from etl.domain import Diagnosis
from etl.errors import ContractError
from etl.prompts import parse_answer, render_prompt
from etl.settings import Codes, CohortSettings, PredictAt


def by_stay(run: Path) -> dict[int, dict[str, Any]]:
    return {row["hadm_id"]: row for row in pl.read_parquet(run / "samples.parquet").iter_rows(named=True)}


# --- reading ------------------------------------------------------------------------------------------


def test_prompts_hold_each_sample_once_in_order_with_its_own_facts_and_drugs(tiny_cohort):
    for split in SPLITS:
        samples = list(read_samples(tiny_cohort, split).iter_rows(named=True))
        prompts = list(read_prompts(tiny_cohort, split))
        assert [row["hadm_id"] for row in prompts] == [row["hadm_id"] for row in samples]
        for row, sample in zip(prompts, samples, strict=True):
            assert row["messages"][:2] == render_prompt(to_admission(sample))
            assert parse_answer(row["messages"][2]["content"]).drugs == tuple(sample["drugs"])


def test_no_patient_stands_in_two_splits(tiny_cohort):
    splits = pl.read_parquet(tiny_cohort / "samples.parquet").group_by("subject_id").agg(pl.col("split").n_unique())
    assert splits["split"].max() == 1
    listed = [{row["subject_id"] for row in read_prompts(tiny_cohort, split)} for split in SPLITS]
    assert all(listed)
    assert len(set.union(*listed)) == sum(map(len, listed))


def test_a_sample_becomes_the_facts_that_its_settings_ask_for_and_no_answer(cohort_of, tables):
    plain = to_admission(by_stay(cohort_of(tables))[1003])
    assert (plain.current_drugs, plain.earlier_diagnoses) == (None, None)
    asked = cohort_of(tables, predict_at=PredictAt.DAY, codes=Codes.EARLIER)
    admission = to_admission(by_stay(asked)[1001])
    assert admission.diagnoses == ()
    assert admission.earlier_diagnoses == ()
    assert admission.current_drugs == ("sodium chloride 0.9% flush", "lorazepam", "senna")
    earlier = to_admission(by_stay(cohort_of(tables, codes=Codes.BOTH))[1003]).earlier_diagnoses
    assert earlier == (
        Diagnosis("4019", 9, "Unspecified essential hypertension"),
        Diagnosis("E8801", 9, "Accidental fall from sidewalk curb"),
        Diagnosis("0389", 9, "Unspecified septicemia"),
    )


def test_a_cohort_of_another_layout_is_refused_with_both_named(tiny_cohort, tmp_path):
    run = shutil.copytree(tiny_cohort, tmp_path / "run")
    (run / "cohort.json").write_text(json.dumps({**read_cohort(tiny_cohort), "format": 1}), "utf-8")
    with pytest.raises(ContractError, match="has layout 1, wanted 2"):
        read_cohort(run)


# --- the open demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(demo_run):
    return by_stay(demo_run)


@pytest.fixture(scope="module")
def at_discharge(mimic_demo, tmp_path_factory):
    """The demo's samples as of discharge."""
    run = tmp_path_factory.mktemp("demo") / "discharge"
    build_cohort(mimic_demo, run, CohortSettings(predict_at=PredictAt.DISCHARGE))
    return by_stay(run)


@pytest.mark.demo_data
def test_of_the_demo_275_admissions_go_in_and_250_come_out(demo_run, demo):
    cohort = read_cohort(demo_run)
    assert [(step["admissions"], step["excluded"]) for step in cohort["flow"]] == [*5 * [(275, 0)], (250, 25)]
    assert cohort["source"] == {"kind": "files", "version": "MIMIC-IV 2.2 demo"}
    assert len(demo) == 250
    assert sum(split["admissions"] for split in cohort["splits"].values()) == 250


@pytest.mark.demo_data
def test_every_order_of_the_demo_is_accounted_for(demo_run):
    cohort = read_cohort(demo_run)
    assert cohort["orders"] == {
        "read": 18_087,
        "kept": 14_391,
        "left out: BASE, not MAIN": 3_677,
        "left out: ADDITIVE, not MAIN": 19,
    }
    assert cohort["drugs"]["canonical"] == 551
    assert cohort["drugs"]["dropped"] == {}, "no MAIN order of the demo names a device or a diluent"


@pytest.mark.demo_data
def test_the_demo_without_its_flushes_and_fluids_lacks_865_orders(mimic_demo, tmp_path):
    """837 orders are flushes, dwells and catheter clearance, 28 are Prismasate."""
    cohort = build_cohort(mimic_demo, tmp_path / "run", CohortSettings(drop=("flushes", "fluids"), open_data=True))
    assert cohort["orders"]["left out: category flushes"] == cohort["drugs"]["dropped"]["flushes"] == 837
    assert cohort["orders"]["left out: category fluids"] == cohort["drugs"]["dropped"]["fluids"] == 28
    assert cohort["orders"]["kept"] == 14_391 - 837 - 28
    listed = {drug for row in by_stay(tmp_path / "run").values() for drug in row["drugs"]}
    assert "sodium chloride 0.9% flush" not in listed
    assert "heparin" in listed


@pytest.mark.demo_data
def test_the_demo_keeps_every_diagnosis_with_its_title(demo_run, demo):
    diagnoses = read_cohort(demo_run)["diagnoses"]
    assert diagnoses.pop("read") == diagnoses.pop("kept") == 4_506
    assert set(diagnoses.values()) == {0}
    assert all(d["title"] for row in demo.values() for d in row["diagnoses"])


@pytest.mark.demo_data
def test_150_demo_samples_know_an_earlier_stay(demo_run, demo):
    assert sum(row["previous_drugs"] is not None for row in demo.values()) == 150
    assert read_cohort(demo_run)["drugs"]["samples with previous drugs"] == 150
    assert all(row["previous_drugs"] is None or row["previous_drugs"] for row in demo.values())


@pytest.mark.demo_data
def test_the_demos_height_of_5_inches_and_its_bmi_are_counted_and_used_nowhere(demo_run, demo):
    measurements = read_cohort(demo_run)["measurements"]
    assert measurements["dropped as implausible"] == {"height_cm": 1, "bmi": 1}
    assert measurements["readings"] == {"height_cm": 378, "weight_kg": 941, "bmi": 773, "systolic_mmhg": 866}
    assert min(row["height_cm"] for row in demo.values() if row["height_cm"]) > 120
    assert max(row["bmi"] for row in demo.values() if row["bmi"]) < 100


@pytest.mark.demo_data
def test_no_patient_of_the_demo_stands_in_two_splits(demo):
    pairs = {(row["subject_id"], row["split"]) for row in demo.values()}
    assert len(pairs) == len({subject_id for subject_id, _ in pairs}) == 100


# Worked out from `zcat hosp/*.csv.gz` by eye: MAIN orders of the stay by starttime, then by name. Measured is
# what was known at discharge; at_admission, where it differs, what was known then.
BY_HAND = {
    # Short, ICD-9, the first stay of seven. Two more weights follow after discharge.
    25797028: {
        "subject_id": 10002428, "age": 80, "sex": "F", "version": 9, "diagnoses": 8,
        "first": ["Syncope and collapse", "Urinary tract infection, site not specified", "Dysphagia, unspecified"],
        "measured": (58 * 2.54, 101 * 0.45359237, 21.1, 160, 88),
        "drugs": [
            "levothyroxine sodium", "lisinopril", "sodium chloride 0.9% flush", "heparin", "sulfameth/trimethoprim ds",
        ],
        "previous": None,
    },
    # ICD-10; five years after the last stay with orders; two weights and BMIs on the day of admission.
    28295257: {
        "subject_id": 10002428, "age": 85, "sex": "F", "version": 10, "diagnoses": 14,
        "first": [
            "Gastrointestinal hemorrhage, unspecified", "Unspecified severe protein-calorie malnutrition",
            "Age-related osteoporosis with current pathological fracture, vertebra(e), initial encounter for fracture",
        ],
        "measured": (59 * 2.54, 88 * 0.45359237, 17.8, 110, 70),
        "drugs": [
            "acetaminophen", "multivitamins", "sodium chloride 0.9% flush", "tramadol", "mirtazapine",
            "bupropion xl (once daily)", "calcitonin salmon", "levothyroxine sodium", "artificial tears",
        ],
        "previous": [
            "levothyroxine sodium", "lisinopril", "acetaminophen", "aluminum-magnesium hydrox.-simethicone",
            "artificial tears", "bisacodyl", "calcium carbonate", "cefazolin", "docusate sodium", "enoxaparin sodium",
            "hydromorphone", "milk of magnesia", "mirtazapine", "multivitamins", "ondansetron",
            "oxycodone (immediate release)", "pantoprazole", "senna", "sodium chloride 0.9% flush", "vitamin d",
            "methylphenidate (ritalin)", "oxycodone-acetaminophen (5mg-325mg)", "morphine sulfate", "neutra-phos",
        ],
    },
    # A drug marked *NF*, names with brackets; height and weight are known only after discharge.
    27703517: {
        "subject_id": 10001217, "age": 55, "sex": "F", "version": 9, "diagnoses": 7,
        "first": ["Intracranial abscess", "Cerebral edema", "Multiple sclerosis"],
        "measured": (None, None, None, 116, 72),
        "drugs": [
            "influenza virus vaccine", "sodium chloride 0.9% flush", "acetaminophen", "oxycodone (immediate release)",
            "levetiracetam", "meropenem", "vancomycin", "heparin flush (10 units/ml)", "bisacodyl", "hydralazine",
            "morphine sulfate", "ondansetron", "senna", "docusate sodium", "alteplase (catheter clearance)",
            "pantoprazole", "magnesium sulfate", "heparin", "ertapenem sodium",
        ],
        "previous": [
            "acetaminophen", "bisacodyl", "docusate sodium", "levetiracetam", "lidocaine 1%", "lorazepam",
            "oxycodone (immediate release)", "senna", "sodium chloride 0.9% flush", "hydralazine", "meropenem",
            "morphine sulfate", "vancomycin", "heparin", "ondansetron", "heparin flush (10 units/ml)",
            "acetaminophen iv", "metronidazole (flagyl)", "ceftriaxone",
        ],
    },
    # ICD-10, over 89; BMI and weight charted anew on the day of discharge; the height of 5 inches is this patient's.
    26739864: {
        "subject_id": 10012853, "age": 93, "sex": "F", "version": 10, "diagnoses": 14,
        "first": [
            "Malignant neoplasm of thyroid gland",
            "Thyrotoxicosis with toxic multinodular goiter without thyrotoxic crisis or storm",
            "Essential (primary) hypertension",
        ],
        "measured": (64 * 2.54, 149 * 0.45359237, 25.6, 127, 48),
        "at_admission": (64 * 2.54, 149.8 * 0.45359237, 25.7, 127, 48),
        "drugs": [
            "amlodipine", "lisinopril", "atorvastatin", "acetaminophen", "morphine sulfate", "ondansetron",
            "sodium chloride 0.9% flush",
        ],
        "previous": [
            "heparin", "heparin sodium", "influenza vaccine quadrivalent", "sodium chloride 0.9% flush",
            "acetaminophen", "amiodarone", "amlodipine", "aspirin", "atorvastatin", "calcium carbonate",
            "calcium gluconate", "docusate sodium", "lisinopril", "magnesium sulfate", "methimazole", "multivitamins",
            "polyethylene glycol", "potassium chloride replacement (critical care and oncology)", "senna",
            "albuterol inhaler", "ipratropium bromide mdi", "heparin flush (10 units/ml)", "ipratropium-albuterol neb",
            "lidocaine 1% (for picc/midline insertions)", "furosemide", "enoxaparin sodium", "colchicine",
            "readi-cat 2 (barium sulfate 2% suspension)",
        ],
    },
    # The only stay of its patient; the height was corrected a month after discharge.
    22585261: {
        "subject_id": 10019917, "age": 44, "sex": "M", "version": 9, "diagnoses": 4,
        "first": [
            "Chronic or unspecified duodenal ulcer with hemorrhage, without mention of obstruction",
            "Acute posthemorrhagic anemia", "Ankylosing spondylitis",
        ],
        "measured": (71 * 2.54, 176.37 * 0.45359237, 24.6, None, None),
        "at_admission": (None, None, None, None, None),
        "drugs": [
            "pantoprazole", "epoetin alfa", "cyanocobalamin", "ferric gluconate", "folic acid", "moviprep",
            "phytonadione", "sodium chloride 0.9% flush",
        ],
        "previous": None,
    },
}  # fmt: skip


@pytest.mark.demo_data
@pytest.mark.parametrize("hadm_id", list(BY_HAND))
def test_five_demo_admissions_are_what_a_reader_of_the_raw_files_finds(demo, at_discharge, hadm_id):
    row, wanted = demo[hadm_id], BY_HAND[hadm_id]
    assert {name: row[name] for name in ("subject_id", "age", "sex")} == {
        name: wanted[name] for name in ("subject_id", "age", "sex")
    }
    assert row["drugs"] == wanted["drugs"]
    assert row["previous_drugs"] == wanted["previous"]
    assert [d["title"] for d in row["diagnoses"][:3]] == wanted["first"]
    assert len(row["diagnoses"]) == wanted["diagnoses"]
    assert {d["icd_version"] for d in row["diagnoses"]} == {wanted["version"]}
    then = wanted.get("at_admission", wanted["measured"])
    for sample, measured in ((row, then), (at_discharge[hadm_id], wanted["measured"])):
        for name, value in zip(MEASUREMENTS, measured, strict=True):
            assert sample[name] == (None if value is None else pytest.approx(value)), name
