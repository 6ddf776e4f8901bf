"""What sql/ makes of rows: on four patients one can read, and as properties of any rows."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.build import build_cohort
from etl.cohort import MEASUREMENTS, read_cohort
from etl.drug_vocabulary import Level, read_drug_vocabulary
from etl.settings import Codes, CohortSettings, PredictAt

POUND_KG = 0.45359237


def rows_of(run: Path) -> list[dict[str, Any]]:
    return list(pl.read_parquet(run / "samples.parquet").iter_rows(named=True))


def counted(run: Path) -> dict[str, Any]:
    """Return all that cohort.json says but for what the bytes of the files decide."""
    return {name: value for name, value in read_cohort(run).items() if name not in ("inputs", "outputs")}


# --- the small hospital -------------------------------------------------------------------------------


def test_the_small_hospital_is_what_its_rows_say(samples_of, tables):
    samples = samples_of(tables)
    assert list(samples) == [1001, 1003, 1004, 1005]
    assert samples[1001]["drugs"] == ["sodium chloride 0.9% flush", "lorazepam", "senna"]
    assert samples[1005]["drugs"] == ["aspirin", "heparin"], "an order without a time is as of admission"
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


def test_the_last_measurement_up_to_the_day_of_admission_counts_and_none_after(samples_of, tables):
    samples = samples_of(tables)
    assert samples[1001]["weight_kg"] == pytest.approx(152 * POUND_KG), "the second of the day, not the one after"
    assert samples[1003]["weight_kg"] == pytest.approx(160 * POUND_KG)
    assert samples[1001]["height_cm"] == pytest.approx(64 * 2.54), "a later height of 5 inches is none"
    assert samples[1004]["bmi"] is None, "charted on the second day"
    assert [samples[1005][name] for name in MEASUREMENTS] == [None] * 5


def test_asked_at_discharge_the_measurements_of_the_stay_count_too(samples_of, tables):
    tables["omr"].append({**tables["omr"][0], "chartdate": "2150-03-05", "result_value": "155"})
    assert samples_of(tables)[1001]["weight_kg"] == pytest.approx(152 * POUND_KG)
    samples = samples_of(tables, predict_at=PredictAt.DISCHARGE)
    assert samples[1001]["weight_kg"] == pytest.approx(155 * POUND_KG), "the day of discharge counts"
    assert samples[1004]["bmi"] == 24.5


def test_a_measurement_comes_with_its_age_in_days(samples_of, tables):
    samples = samples_of(tables)
    assert samples[1001]["weight_age_days"] == 0
    assert samples[1001]["height_age_days"] == 31 + 28
    assert samples[1003]["weight_age_days"] == (date(2153, 7, 1) - date(2150, 3, 6)).days
    assert samples[1001]["blood_pressure_age_days"] == 28
    assert [samples[1004][name] for name in ("bmi_age_days", "weight_age_days")] == [None, None]


@pytest.mark.parametrize("value", ["5", "-3", "", "tall", "nan", "inf", "1e9"])
def test_an_implausible_measurement_changes_no_sample_and_is_counted(
    samples_of, cohort_of, tables, fresh_tables, value
):
    tables["omr"].append({**tables["omr"][4], "chartdate": "2150-03-01", "result_value": value})
    assert samples_of(tables) == samples_of(fresh_tables())
    assert read_cohort(cohort_of(tables))["measurements"]["dropped as implausible"]["height_cm"] == 2


def test_both_numbers_of_a_blood_pressure_come_from_one_reading(samples_of, tables):
    pressure = tables["omr"][5]
    tables["omr"] += [
        {**pressure, "chartdate": "2150-03-01", "seq_num": "1", "result_value": "120/60"},
        {**pressure, "chartdate": "2150-03-01", "seq_num": "1", "result_value": "110/90"},
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
    assert [(step["step"], step["admissions"], step["excluded"]) for step in cohort["flow"]] == [
        ("admissions read", 7, 0),
        ("patient listed", 6, 1),
        ("adult", 6, 0),
        ("still in hospital at the prediction time", 6, 0),
        ("at least one diagnosis", 5, 1),
        ("at least one drug to be drafted", 4, 1),
    ]


def test_orders_of_a_dropped_category_and_outside_the_window_are_counted_as_such(cohort_of, tables):
    run = cohort_of(tables, drop=("flushes",), predict_at=PredictAt.DAY, within_hours=24)
    [sample] = rows_of(run)
    assert (sample["hadm_id"], sample["drugs"]) == (1001, ["lorazepam"])
    assert sample["current_drugs"] == ["lorazepam", "senna"]
    orders = read_cohort(run)["orders"]
    assert orders.pop("read") == sum(orders.values()) == len(tables["prescriptions"])
    assert orders == {
        "kept": 1,
        "left out: ADDITIVE, not MAIN": 1,
        "left out: BASE, not MAIN": 1,
        "left out: category flushes": 1,
        "left out: no name": 1,
        "left out: no such admission": 1,
        "left out: outside the window": 8,
    }


def test_minors_leave_no_trace(samples_of, cohort_of, tables):
    plain = samples_of(tables)
    tables["patients"][1].update(anchor_age="16")
    samples = samples_of(tables)
    assert samples == {hadm_id: row for hadm_id, row in plain.items() if hadm_id != 1004}
    flow = {step["step"]: step["excluded"] for step in read_cohort(cohort_of(tables))["flow"]}
    assert flow["adult"] == 1


def test_every_order_of_the_tiny_hospital_is_in_one_counted_fate(tiny_hospital, tmp_path):
    cohort = build_cohort(tiny_hospital, tmp_path / "run", CohortSettings(open_data=True))
    orders, read = dict(cohort["orders"]), cohort["rows_read"]["prescriptions"]
    assert orders.pop("read") == read == sum(orders.values())
    flow = cohort["flow"]
    assert all(
        flow[n]["admissions"] - flow[n + 1]["excluded"] == flow[n + 1]["admissions"] for n in range(len(flow) - 1)
    )


# --- properties ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(cohort_of, fresh_tables):
    """The cohort of the small hospital as it stands."""
    return cohort_of(fresh_tables())


slow = settings(max_examples=12)


@slow
@given(seed=st.integers(0, 2**32))
def test_the_order_of_rows_decides_no_byte(cohort_of, fresh_tables, plain, seed):
    tables, shuffle = fresh_tables(), random.Random(seed)
    for rows in tables.values():
        shuffle.shuffle(rows)
    shuffled = cohort_of(tables)
    for name in ("samples.parquet", "formulary.parquet", "icd_titles.parquet"):
        assert (shuffled / name).read_bytes() == (plain / name).read_bytes(), name
    assert counted(shuffled) == counted(plain)


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
def test_a_repeated_row_changes_no_sample(cohort_of, fresh_tables, plain, data):
    tables = fresh_tables()
    for table in ("diagnoses_icd", "prescriptions", "omr"):
        repeated = data.draw(st.lists(st.sampled_from(tables[table]), max_size=4))
        for row in repeated:
            tables[table].insert(data.draw(st.integers(0, len(tables[table]))), dict(row))
    assert (cohort_of(tables) / "samples.parquet").read_bytes() == (plain / "samples.parquet").read_bytes()


later_day = st.integers(1, 27).map("{:02d}".format)


@slow
@given(day=later_day, drugs=st.lists(st.sampled_from(["Senna", "Warfarin", "*NF* Odd"])), number=st.integers(1, 9999))
def test_a_later_stay_never_changes_an_earlier_sample(samples_of, fresh_tables, plain, day, drugs, number):
    tables = fresh_tables()
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
    before = {row["hadm_id"]: row for row in rows_of(plain)}
    assert samples == before
    assert (later is not None) == bool(drugs)
    assert later is None or later["previous_drugs"] == before[1003]["drugs"]


ENDS = {
    PredictAt.ADMISSION: pl.col("admittime"),
    PredictAt.DAY: pl.col("admittime") + pl.duration(hours=24),
    PredictAt.DISCHARGE: pl.col("dischtime"),
}


@pytest.mark.parametrize("predict_at", ENDS)
def test_no_sample_of_the_tiny_hospital_knows_what_came_later(tiny_hospital, tmp_path, predict_at):
    """Cut every table after each patient's second prediction: what is left must not have noticed."""
    read = {path.name: pl.read_csv(path, infer_schema=False) for path in (tiny_hospital / "hosp").iterdir()}
    stays = read["admissions.csv.gz"].with_columns(pl.col("admittime", "dischtime").str.to_datetime())
    ranked = stays.with_columns(rank=pl.col("admittime").rank("ordinal").over("subject_id"), end=ENDS[predict_at])
    kept = ranked.filter(pl.col("rank") <= 2)
    ends = dict(kept.sort("rank").select("subject_id", pl.col("end").dt.date().cast(pl.String)).iter_rows())
    hosp = tmp_path / "mimic" / "hosp"
    hosp.mkdir(parents=True)
    for name, frame in read.items():
        if "hadm_id" in frame.columns:
            frame = frame.filter(pl.col("hadm_id").is_in(kept["hadm_id"].to_list()))
        if name == "omr.csv.gz":
            last = pl.Series([ends[subject_id] for subject_id in frame["subject_id"]])
            frame = frame.filter(frame["chartdate"] <= last)
        frame.write_csv(hosp / name.removesuffix(".gz"))
    options = CohortSettings(predict_at=predict_at, codes=Codes.BOTH)
    build_cohort(tiny_hospital, tmp_path / "whole", options)
    build_cohort(tmp_path / "mimic", tmp_path / "cut", options)
    whole = {row["hadm_id"]: row for row in rows_of(tmp_path / "whole")}
    cut = {row["hadm_id"]: row for row in rows_of(tmp_path / "cut")}
    assert 30 < len(cut) < len(whole)
    assert cut == {hadm_id: whole[hadm_id] for hadm_id in cut}


def test_the_formulary_holds_exactly_the_drugs_of_training(tiny_cohort):
    samples = pl.read_parquet(tiny_cohort / "samples.parquet")
    counts = Counter(drug for row in samples.filter(split="train").iter_rows(named=True) for drug in row["drugs"])
    formulary = list(pl.read_parquet(tiny_cohort / "formulary.parquet").iter_rows(named=True))
    assert {row["drug"]: row["admissions"] for row in formulary} == counts
    assert [row["drug"] for row in formulary] == sorted(counts, key=lambda drug: (-counts[drug], drug))
    vocabulary = read_drug_vocabulary()
    for row in formulary:
        assert {vocabulary.labels(spelling, Level.DRUG) for spelling in row["spellings"]} == {(row["drug"],)}


def test_a_drug_that_only_others_got_is_in_no_formulary(cohort_of, tables):
    seed = 6  # with it, of the patients with samples one trains, one validates and one tests
    splits = {row["subject_id"]: row["split"] for row in rows_of(cohort_of(tables, seed=seed))}
    assert sorted(splits.values()) == ["test", "train", "validation"]

    def run_with(drug: str) -> Path:
        changed = copy.deepcopy(tables)
        for row in changed["prescriptions"]:
            if splits.get(int(row["subject_id"])) != "train":
                row["drug"] = drug
        return cohort_of(changed, seed=seed)

    one, other = run_with("Secretone"), run_with("Secrettwo")
    assert "secretone" in {drug for row in rows_of(one) for drug in row["drugs"]}
    assert (one / "formulary.parquet").read_bytes() == (other / "formulary.parquet").read_bytes()
    assert "secret" not in json.dumps(list(pl.read_parquet(one / "formulary.parquet").iter_rows()))
