from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.build import build_cohort
from etl.cohort import SPLITS, read_cohort, read_prompts, read_samples, to_admission
from etl.drugs import normalise_drug
from etl.errors import ContractError
from etl.prompts import parse_answer, render_prompt
from etl.warehouse import read_models

MEASUREMENTS = ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return list(pl.read_parquet(run / "samples.parquet").iter_rows(named=True))


# --- the open demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_run(mimic_demo, tmp_path_factory):
    run = tmp_path_factory.mktemp("demo") / "run"
    build_cohort(mimic_demo, run)
    return run


@pytest.fixture(scope="module")
def demo(demo_run):
    return {row["hadm_id"]: row for row in rows_of(demo_run)}


@pytest.mark.demo_data
def test_of_the_demo_275_admissions_go_in_and_250_come_out(demo_run, demo):
    cohort = read_cohort(demo_run)
    assert [(step["admissions"], step["excluded"]) for step in cohort["flow"]] == [
        (275, 0),
        (275, 0),
        (275, 0),
        (250, 25),
    ]
    assert len(demo) == 250
    assert sum(split["admissions"] for split in cohort["splits"].values()) == 250


@pytest.mark.demo_data
def test_every_order_of_the_demo_is_accounted_for(demo_run):
    assert read_cohort(demo_run)["orders"] == {
        "read": 18_087,
        "kept": 14_391,
        "left out: BASE, not MAIN": 3_677,
        "left out: ADDITIVE, not MAIN": 19,
    }


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
    assert measurements["readings"] == {
        "height_cm": 378, "weight_kg": 941, "bmi": 773, "systolic_mmhg": 866, "diastolic_mmhg": 866,
    }  # fmt: skip
    assert min(row["height_cm"] for row in demo.values() if row["height_cm"]) > 120
    assert max(row["bmi"] for row in demo.values() if row["bmi"]) < 100


# Worked out from `zcat hosp/*.csv.gz` by eye: MAIN orders of the stay by starttime, then by name.
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
    # ICD-10, over 89; BMI and weight charted on the day of discharge; the height of 5 inches is this patient's.
    26739864: {
        "subject_id": 10012853, "age": 93, "sex": "F", "version": 10, "diagnoses": 14,
        "first": [
            "Malignant neoplasm of thyroid gland",
            "Thyrotoxicosis with toxic multinodular goiter without thyrotoxic crisis or storm",
            "Essential (primary) hypertension",
        ],
        "measured": (64 * 2.54, 149 * 0.45359237, 25.6, 127, 48),
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
        "drugs": [
            "pantoprazole", "epoetin alfa", "cyanocobalamin", "ferric gluconate", "folic acid", "moviprep",
            "phytonadione", "sodium chloride 0.9% flush",
        ],
        "previous": None,
    },
}  # fmt: skip


@pytest.mark.demo_data
@pytest.mark.parametrize("hadm_id", list(BY_HAND))
def test_five_demo_admissions_are_what_a_reader_of_the_raw_files_finds(demo, hadm_id):
    row, wanted = demo[hadm_id], BY_HAND[hadm_id]
    assert {name: row[name] for name in ("subject_id", "age", "sex")} == {
        name: wanted[name] for name in ("subject_id", "age", "sex")
    }
    assert row["drugs"] == wanted["drugs"]
    assert row["previous_drugs"] == wanted["previous"]
    assert [d["title"] for d in row["diagnoses"][:3]] == wanted["first"]
    assert len(row["diagnoses"]) == wanted["diagnoses"]
    assert {d["icd_version"] for d in row["diagnoses"]} == {wanted["version"]}
    for name, value in zip(MEASUREMENTS, wanted["measured"], strict=True):
        assert row[name] == (None if value is None else pytest.approx(value)), name


@pytest.mark.demo_data
def test_the_demo_gives_the_same_bytes_twice(demo_run, mimic_demo, tmp_path):
    build_cohort(mimic_demo, tmp_path / "again")
    first, second = all_bytes(demo_run), all_bytes(tmp_path / "again")
    assert set(first) == set(second) > {"cohort.json", "samples.parquet", "prompts/test.jsonl"}
    assert [name for name in first if first[name] != second[name]] == []


# --- the folder ---------------------------------------------------------------------------------------


def test_a_whole_cohort_is_reused_and_not_a_byte_or_time_of_it_changes(tiny_hospital, tmp_path):
    first = build_cohort(tiny_hospital, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    stages: list[str] = []
    assert build_cohort(tiny_hospital, tmp_path / "run", on_stage=stages.append) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert stages == ["digests"]


def test_another_seed_is_refused_by_name_until_overwrite_is_said(tiny_hospital, tmp_path, command):
    run = tmp_path / "run"
    assert command("etl", "--mimic", tiny_hospital, "--out", run)[0] == 0
    before = all_bytes(run)
    status, out, err = command("etl", "--mimic", tiny_hospital, "--out", run, "--seed", 1)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "differs in seed;" in err
    assert "--overwrite" in err
    assert all_bytes(run) == before
    assert command("etl", "--mimic", tiny_hospital, "--out", run, "--seed", 1, "--overwrite")[0] == 0
    assert read_cohort(run)["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_other_input_is_refused_by_name(tiny_hospital, tiny_cohort, tables, write_tables, tmp_path):
    before = all_bytes(tiny_cohort)
    with pytest.raises(ContractError, match=r"differs in inputs;"):
        build_cohort(write_tables(tmp_path / "mimic", tables), tiny_cohort)
    assert all_bytes(tiny_cohort) == before


def test_a_folder_that_is_no_cohort_is_never_touched(tiny_hospital, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ContractError, match="was not made by `rxdraft etl`"):
        build_cohort(tiny_hospital, tmp_path / "thesis")
    assert all_bytes(tmp_path / "thesis") == {"chapter.txt": b"years of work"}


def test_overwrite_replaces_a_cohort_but_no_other_folder(tiny_hospital, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ContractError):
        build_cohort(tiny_hospital, tmp_path / "thesis", overwrite=True)
    assert all_bytes(tmp_path / "thesis") == {"chapter.txt": b"years of work"}


def test_overwrite_does_not_remove_its_own_input(tables, write_tables, tmp_path):
    mimic = write_tables(tmp_path / "mimic", tables)
    with pytest.raises(ContractError):
        build_cohort(mimic, mimic, overwrite=True)
    assert (mimic / "hosp" / "patients.csv.gz").is_file()


def test_a_cohort_that_lost_a_file_is_refused_with_the_file_named(tiny_hospital, tmp_path):
    build_cohort(tiny_hospital, tmp_path / "run")
    (tmp_path / "run" / "formulary.parquet").unlink()
    with pytest.raises(ContractError, match=r"lacks formulary\.parquet"):
        build_cohort(tiny_hospital, tmp_path / "run")


def test_a_failed_build_leaves_nothing(tables, write_tables, tmp_path):
    mimic = write_tables(tmp_path / "mimic", tables)

    def stop(stage: str) -> None:
        if stage == "prompts":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cohort(mimic, tmp_path / "out" / "run", on_stage=stop)
    assert list((tmp_path / "out").iterdir()) == []


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


@pytest.mark.demo_data
def test_no_patient_of_the_demo_stands_in_two_splits(demo):
    pairs = {(row["subject_id"], row["split"]) for row in demo.values()}
    assert len(pairs) == len({subject_id for subject_id, _ in pairs}) == 100


# --- the small hospital -------------------------------------------------------------------------------


def test_the_small_hospital_is_what_its_rows_say(samples_of, tables):
    samples = samples_of(tables)
    assert list(samples) == [1001, 1003, 1004, 1005]
    assert samples[1001]["drugs"] == ["sodium chloride 0.9% flush", "lorazepam", "senna"]
    assert samples[1005]["drugs"] == ["heparin", "aspirin"], "an order without a time is the last"
    assert [samples[h]["age"] for h in samples] == [60, 63, 92, 46]
    assert [samples[h]["race"] for h in samples] == ["WHITE", "OTHER", "ASIAN", "WHITE"]


def test_orders_of_diluents_and_additives_are_no_drugs(samples_of, tables):
    listed = {drug for row in samples_of(tables).values() for drug in row["drugs"]}
    assert "5% dextrose" not in listed
    assert "thiamine" not in listed


def test_a_title_is_found_by_code_and_version(samples_of, tables):
    samples = samples_of(tables)
    titles = {hadm_id: [d["title"] for d in row["diagnoses"]] for hadm_id, row in samples.items()}
    assert titles[1001] == ["Accidental fall from sidewalk curb", "Unspecified septicemia"]
    assert titles[1003] == ["Alpha-1-antitrypsin deficiency", "Essential (primary) hypertension"]
    assert titles[1005] == [None, "Unspecified essential hypertension"], "a code without a title is kept"


def test_previous_drugs_skip_a_stay_without_orders(samples_of, tables):
    samples = samples_of(tables)
    assert samples[1003]["previous_drugs"] == samples[1001]["drugs"]
    assert [samples[h]["previous_drugs"] for h in (1001, 1004, 1005)] == [None, None, None]


def test_the_last_measurement_up_to_the_day_of_discharge_counts_and_none_after(samples_of, tables):
    samples = samples_of(tables)
    assert samples[1001]["weight_kg"] == pytest.approx(152 * 0.45359237), "the second of the day, not the one after"
    assert samples[1003]["weight_kg"] == pytest.approx(160 * 0.45359237)
    assert samples[1001]["height_cm"] == pytest.approx(64 * 2.54), "a later height of 5 inches is none"
    assert samples[1004]["bmi"] == 24.5
    assert [samples[1005][name] for name in MEASUREMENTS] == [None] * 5
    tables["omr"].append({**tables["omr"][0], "chartdate": "2150-03-05", "result_value": "155"})
    assert samples_of(tables)[1001]["weight_kg"] == pytest.approx(155 * 0.45359237), "the day of discharge counts"


@pytest.mark.parametrize("value", ["5", "-3", "", "tall", "nan", "inf", "1e9"])
def test_an_implausible_measurement_changes_no_sample_and_is_counted(
    samples_of, cohort_of, tables, fresh_tables, value
):
    tables["omr"].append({**tables["omr"][4], "chartdate": "2150-03-02", "result_value": value})
    assert samples_of(tables) == samples_of(fresh_tables())
    assert read_cohort(cohort_of(tables))["measurements"]["dropped as implausible"]["height_cm"] == 2


def test_both_numbers_of_a_blood_pressure_come_from_one_reading(samples_of, tables):
    pressure = tables["omr"][5]
    tables["omr"] += [
        {**pressure, "chartdate": "2150-03-02", "seq_num": "1", "result_value": "120/60"},
        {**pressure, "chartdate": "2150-03-02", "seq_num": "1", "result_value": "110/90"},
    ]
    sample = samples_of(tables)[1001]
    assert (sample["systolic_mmhg"], sample["diastolic_mmhg"]) in {(120, 60), (110, 90)}


def test_every_row_is_in_one_counted_fate(cohort_of, tables):
    tables["diagnoses_icd"] += [
        tables["diagnoses_icd"][0],
        {**tables["diagnoses_icd"][0], "icd_code": ""},
        {**tables["diagnoses_icd"][0], "hadm_id": "8888"},
    ]
    tables["admissions"].append({**tables["admissions"][0], "hadm_id": "1007", "subject_id": "999"})
    tables["prescriptions"] += [
        {**tables["prescriptions"][0], "drug_type": ""},
        {**tables["prescriptions"][0], "drug": ""},
        {**tables["prescriptions"][0], "hadm_id": ""},
    ]
    cohort = read_cohort(cohort_of(tables))
    orders = cohort["orders"]
    assert orders.pop("read") == sum(orders.values()) == len(tables["prescriptions"])
    assert orders == {
        "kept": 9,
        "left out: ADDITIVE, not MAIN": 1,
        "left out: BASE, not MAIN": 1,
        "left out: admission excluded": 1,
        "left out: no name": 2,
        "left out: no such admission": 2,
        "left out: no type, not MAIN": 1,
    }
    diagnoses = cohort["diagnoses"]
    assert diagnoses.pop("without a title") == 1
    assert diagnoses.pop("read") == sum(diagnoses.values()) == len(tables["diagnoses_icd"])
    assert [(step["admissions"], step["excluded"]) for step in cohort["flow"]] == [(7, 0), (6, 1), (5, 1), (4, 1)]


def test_every_order_of_the_tiny_hospital_is_in_one_counted_fate(tiny_cohort):
    cohort = read_cohort(tiny_cohort)
    orders, read = dict(cohort["orders"]), cohort["rows_read"]["prescriptions"]
    assert orders.pop("read") == read == sum(orders.values())
    flow = cohort["flow"]
    assert all(
        flow[n]["admissions"] - flow[n + 1]["excluded"] == flow[n + 1]["admissions"] for n in range(len(flow) - 1)
    )


# --- properties ---------------------------------------------------------------------------------------

slow = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(seed=st.integers(0, 2**32))
def test_the_order_of_rows_decides_no_byte(cohort_of, fresh_tables, seed):
    plain, tables, shuffle = cohort_of(fresh_tables()), fresh_tables(), random.Random(seed)
    for rows in tables.values():
        shuffle.shuffle(rows)
    shuffled = cohort_of(tables)
    for name in ("samples.parquet", "formulary.parquet", "icd_titles.parquet", "prompts/train.jsonl"):
        assert (shuffled / name).read_bytes() == (plain / name).read_bytes(), name


def test_ties_of_rank_and_time_do_not_let_the_order_of_rows_decide(cohort_of, tables):
    """Equal ranks, equal times, one code in both versions, equal dates and numbers of a measurement."""
    for row in tables["diagnoses_icd"]:
        row["seq_num"] = "1"
    tables["diagnoses_icd"] += [
        {"subject_id": "101", "hadm_id": "1001", "seq_num": "1", "icd_code": "E8801", "icd_version": "10"},
        {"subject_id": "102", "hadm_id": "1004", "seq_num": "", "icd_code": "4019", "icd_version": "9"},
        {"subject_id": "102", "hadm_id": "1004", "seq_num": "", "icd_code": "0389", "icd_version": "9"},
    ]
    for row in tables["admissions"]:
        row["admittime"] = f"{row['admittime'][:4]}-01-01 00:00:00"
    for row in tables["prescriptions"]:
        row["starttime"] = ""
    tables["omr"] += [{**row, "result_value": str(150 + n)} for n, row in enumerate(tables["omr"][:4])]
    plain = (cohort_of(tables) / "samples.parquet").read_bytes()
    for seed in range(8):
        shuffled, shuffle = copy.deepcopy(tables), random.Random(seed)
        for rows in shuffled.values():
            shuffle.shuffle(rows)
        assert (cohort_of(shuffled) / "samples.parquet").read_bytes() == plain, seed


@slow
@given(data=st.data())
def test_a_repeated_row_changes_no_sample(cohort_of, fresh_tables, data):
    plain, tables = cohort_of(fresh_tables()), fresh_tables()
    for table in ("diagnoses_icd", "prescriptions", "omr"):
        repeated = data.draw(st.lists(st.sampled_from(tables[table]), max_size=4))
        for row in repeated:
            tables[table].insert(data.draw(st.integers(0, len(tables[table]))), dict(row))
    assert (cohort_of(tables) / "samples.parquet").read_bytes() == (plain / "samples.parquet").read_bytes()


later_day = st.integers(1, 27).map("{:02d}".format)


@slow
@given(day=later_day, drugs=st.lists(st.sampled_from(["Senna", "Warfarin", "*NF* Odd"])), number=st.integers(1, 9999))
def test_a_later_stay_never_changes_an_earlier_sample(samples_of, fresh_tables, day, drugs, number):
    plain, tables = samples_of(fresh_tables()), fresh_tables()
    stay = {**tables["admissions"][2], "hadm_id": str(number + 5000)}
    stay.update(admittime=f"2154-01-{day} 10:00:00", dischtime="2154-02-01 10:00:00")
    tables["admissions"].insert(0, stay)
    tables["diagnoses_icd"].insert(0, {**tables["diagnoses_icd"][0], "hadm_id": stay["hadm_id"]})
    tables["omr"].insert(0, {**tables["omr"][0], "chartdate": f"2154-01-{day}"})
    for drug in drugs:
        order = {**tables["prescriptions"][0], "hadm_id": stay["hadm_id"], "drug": drug}
        tables["prescriptions"].insert(0, {**order, "starttime": f"2154-01-{day} 11:00:00"})
    samples = samples_of(tables)
    later = samples.pop(number + 5000, None)
    assert samples == plain
    assert (later is not None) == bool(drugs)
    assert later is None or later["previous_drugs"] == plain[1003]["drugs"]


def test_no_sample_of_the_tiny_hospital_knows_what_came_later(tiny_hospital, tiny_cohort, tmp_path):
    """Cut every table at a date, stays that ended before it must not have noticed."""
    folder = tmp_path / "mimic" / "hosp"
    folder.mkdir(parents=True)
    read = {path.name: pl.read_csv(path, infer_schema=False) for path in (tiny_hospital / "hosp").iterdir()}
    stays = read["admissions.csv.gz"]
    ranked = stays.with_columns(rank=pl.col("admittime").rank("ordinal").over("subject_id"))
    kept = ranked.filter(pl.col("rank") <= 2)["hadm_id"].to_list()
    ends = {
        row["subject_id"]: row["dischtime"][:10]
        for row in ranked.sort("rank").iter_rows(named=True)
        if row["rank"] <= 2
    }
    for name, frame in read.items():
        if "hadm_id" in frame.columns:
            frame = frame.filter(pl.col("hadm_id").is_in(kept))
        if name == "omr.csv.gz":
            last = pl.Series([ends[subject_id] for subject_id in frame["subject_id"]])
            frame = frame.filter(frame["chartdate"] <= last)
        frame.write_csv(folder / name.removesuffix(".gz"))
    build_cohort(tmp_path / "mimic", tmp_path / "run")
    whole = {row["hadm_id"]: row for row in rows_of(tiny_cohort)}
    cut = {row["hadm_id"]: row for row in rows_of(tmp_path / "run")}
    assert 30 < len(cut) < len(whole)
    assert cut == {hadm_id: whole[hadm_id] for hadm_id in cut}


def splits_of(subject_ids: range, seed: int) -> dict[int, str]:
    query = next(model.query for model in read_models() if model.table == "splits")
    with duckdb.connect() as con:
        con.execute("CREATE TABLE settings AS SELECT ?::BIGINT AS split_seed", [seed])
        con.execute(
            "CREATE TABLE admissions AS SELECT range AS subject_id FROM range(?, ?)",
            [subject_ids.start, subject_ids.stop],
        )
        return dict(con.execute(query).fetchall())


@pytest.mark.parametrize("seed", [0, 1, -7, 2**40])
def test_of_5000_patients_about_80_10_and_10_percent_fall_into_the_splits(seed):
    splits = splits_of(range(10_000_000, 10_005_000), seed)
    assert len(splits) == 5000
    shares = {split: count / 5000 for split, count in Counter(splits.values()).items()}
    # Four standard errors of a share of 5,000 draws.
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=4 * (0.16 / 5000) ** 0.5)


def test_a_patient_keeps_the_split_when_others_are_added_and_another_seed_deals_anew():
    some, more = splits_of(range(100, 600), 0), splits_of(range(5000), 0)
    assert some == {subject_id: more[subject_id] for subject_id in some}
    other = splits_of(range(5000), 1)
    moved = sum(more[subject_id] != other[subject_id] for subject_id in more) / 5000
    assert moved == pytest.approx(1 - 0.8**2 - 2 * 0.1**2, abs=0.03), "two seeds agree only by chance"


def test_the_formulary_holds_exactly_the_drugs_of_training(tiny_cohort):
    samples = pl.read_parquet(tiny_cohort / "samples.parquet")
    counts = Counter(drug for row in samples.filter(split="train").iter_rows(named=True) for drug in row["drugs"])
    formulary = list(pl.read_parquet(tiny_cohort / "formulary.parquet").iter_rows(named=True))
    assert {row["drug"]: row["admissions"] for row in formulary} == counts
    assert [row["drug"] for row in formulary] == sorted(counts, key=lambda drug: (-counts[drug], drug))
    assert all(normalise_drug(spelling) == row["drug"] for row in formulary for spelling in row["spellings"])


def test_a_drug_that_only_others_got_is_in_no_formulary(cohort_of, tables):
    def run_with(drug: str) -> Path:
        changed = copy.deepcopy(tables)
        for row in changed["prescriptions"]:
            if row["subject_id"] in outside:
                row["drug"] = drug
        return cohort_of(changed, seed=seed)

    seed = next(s for s in range(100) if {"train", "test"} <= set(splits_of(range(101, 104), s).values()))
    outside = {str(patient) for patient, split in splits_of(range(101, 104), seed).items() if split != "train"}
    one, other = run_with("Secretone"), run_with("Secrettwo")
    assert "secretone" in json.dumps(rows_of(one))
    assert (one / "formulary.parquet").read_bytes() == (other / "formulary.parquet").read_bytes()
    assert "secret" not in json.dumps(list(pl.read_parquet(one / "formulary.parquet").iter_rows()))
