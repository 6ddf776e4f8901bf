"""What is known when a draft is asked for, and which orders are its answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.build import build_cohort
from etl.cohort import read_cohort
from etl.settings import Codes, CohortSettings, PredictAt

Tables = dict[str, list[dict[str, Any]]]
Samples = dict[int, dict[str, Any]]

NOON = datetime(2150, 3, 1, 12)
"""When the stays of these tests begin."""
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


def empty() -> Tables:
    titles = [{"icd_code": f"I{n}", "icd_version": 10, "long_title": f"disease {n}"} for n in range(10)]
    tables = ("patients", "admissions", "diagnoses_icd", "prescriptions", "omr", "labevents")
    return {**{table: [] for table in tables}, "d_icd_diagnoses": titles}


def add_patient(tables: Tables, subject_id: int = 1, gender: str = "F", age: int = 60) -> None:
    row = {"subject_id": subject_id, "gender": gender, "anchor_age": age, "anchor_year": 2150}
    tables["patients"].append({**row, "anchor_year_group": "2008 - 2010"})
    add_reading(tables, NOON.date() + timedelta(9999), "Height (Inches)", 60, subject_id)  # no table may be empty


def add_stay(
    tables: Tables, hadm_id: int, begin: datetime = NOON, hours: float | None = 200, subject_id: int = 1, code: int = 0
) -> None:
    end = "" if hours is None else begin + timedelta(hours=hours)
    row = {"subject_id": subject_id, "hadm_id": hadm_id, "admittime": begin, "dischtime": end}
    tables["admissions"].append({**row, "admission_type": "URGENT", "race": "OTHER"})
    tables["diagnoses_icd"].append({"hadm_id": hadm_id, "seq_num": 1, "icd_code": f"I{code}", "icd_version": 10})


def add_order(tables: Tables, hadm_id: int, drug: str, when: datetime | str) -> None:
    tables["prescriptions"].append({"hadm_id": hadm_id, "starttime": when, "drug_type": "MAIN", "drug": drug})


def add_reading(tables: Tables, day: date, name: str, value: object, subject_id: int = 1) -> None:
    row = {"subject_id": subject_id, "chartdate": day, "seq_num": 1}
    tables["omr"].append({**row, "result_name": name, "result_value": value})


def add_lab(
    tables: Tables, itemid: int, value: float, charted: datetime, stored: datetime | str, subject_id: int = 1
) -> None:
    row = {"subject_id": subject_id, "itemid": itemid, "charttime": charted, "storetime": stored}
    tables["labevents"].append({**row, "valuenum": value})


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Samples]:
    """Write tables, build their cohort at `ask.run`, return its samples by hadm_id."""

    def build(tables: Tables, predict_at: str = "admission", hours: int | None = None, codes: str = "stay") -> Samples:
        folder = tmp_path_factory.mktemp("asked")
        (folder / "hosp").mkdir()
        for table, rows in tables.items():
            frame = pl.DataFrame([{name: str(value) for name, value in row.items()} for row in rows] or {"itemid": []})
            if table == "labevents" and not rows:
                continue
            frame.write_csv(folder / "hosp" / f"{table}.csv")
        wanted = CohortSettings(
            PredictAt(predict_at), hours, Codes(codes), drop=(), labs=bool(tables["labevents"]), open_data=True
        )
        build_cohort(folder, folder / "run", wanted)
        build.run = folder / "run"  # type: ignore[attr-defined]
        return {
            row["hadm_id"]: row for row in pl.read_parquet(folder / "run" / "samples.parquet").iter_rows(named=True)
        }

    return build


# --- the truth window ---------------------------------------------------------------------------------

OFFSETS = {
    "hours before": -5 * HOUR,
    "as it begins": 0 * HOUR,
    "at one day": 24 * HOUR,
    "after one day": 24 * HOUR + SECOND,
    "at three days": 72 * HOUR,
    "after three days": 72 * HOUR + SECOND,
    "after it ends": 300 * HOUR,
}
ANSWERS = {
    ("admission", None): {*OFFSETS, "whenever"},
    ("admission", 24): {"hours before", "as it begins", "at one day", "whenever"},
    ("admission", 72): {*OFFSETS, "whenever"} - {"after three days", "after it ends"},
    ("24h", None): {"after one day", "at three days", "after three days", "after it ends"},
    ("24h", 48): {"after one day", "at three days"},
    ("discharge", None): {*OFFSETS, "whenever"},
}


@pytest.mark.parametrize(("predict_at", "hours"), ANSWERS)
def test_the_window_ends_on_the_second(ask, predict_at, hours):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11)
    for name, offset in OFFSETS.items():
        add_order(tables, 11, name, NOON + offset)
    add_order(tables, 11, "whenever", "")
    sample = ask(tables, predict_at, hours)[11]
    assert set(sample["drugs"]) == ANSWERS[predict_at, hours]
    assert sample["predict_time"] == NOON + {"admission": 0, "24h": 24, "discharge": 200}[predict_at] * HOUR
    if predict_at == "24h":  # an order without a time counts as written at admission
        assert sample["current_drugs"] == ["hours before", "as it begins", "whenever", "at one day"]
    else:
        assert sample["current_drugs"] is None


def test_a_stay_that_is_over_by_the_time_is_left_out_and_counted(ask):
    tables = empty()
    for subject, hours in enumerate([23, 24, 24 + 1 / 3600, None], 1):
        add_patient(tables, subject)
        add_stay(tables, 10 + subject, hours=hours, subject_id=subject)
        add_order(tables, 10 + subject, "aspirin", NOON + 25 * HOUR)
    assert set(ask(tables, "24h")) == {13, 14}
    flow = {step["step"]: step["excluded"] for step in read_cohort(ask.run)["flow"]}
    assert flow["still in hospital at the prediction time"] == 2
    assert set(ask(tables)) == {11, 12, 13, 14}


# --- what was known -----------------------------------------------------------------------------------


def test_only_stays_that_ended_by_then_lend_their_codes_and_the_latest_comes_first(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11, NOON - 400 * HOUR, 100, code=1)
    add_stay(tables, 12, NOON - 300 * HOUR, 300, code=2)  # ends as the stay begins
    add_stay(tables, 13, NOON - 100 * HOUR, 110, code=3)  # ends ten hours into it
    add_stay(tables, 14, NOON - 90 * HOUR, None, code=4)  # no known end
    add_stay(tables, 15, NOON, 200, code=5)
    add_stay(tables, 16, NOON + 10 * HOUR, 20, code=6)  # within it
    tables["diagnoses_icd"].append({"hadm_id": 12, "seq_num": 2, "icd_code": "I1", "icd_version": 10})
    add_order(tables, 15, "aspirin", NOON + 30 * HOUR)
    known = {"admission": ["I2", "I1"], "24h": ["I3", "I2", "I1"], "discharge": ["I6", "I3", "I2", "I1"]}
    for predict_at, codes in known.items():
        sample = ask(tables, predict_at, codes="both")[15]
        assert [d["icd_code"] for d in sample["earlier_diagnoses"]] == codes
        assert [d["icd_code"] for d in sample["diagnoses"]] == ["I5"]
    alone = ask(tables, "discharge", codes="earlier")[15]
    assert (alone["earlier_diagnoses"], alone["diagnoses"]) == (sample["earlier_diagnoses"], None)
    assert ask(tables)[15]["earlier_diagnoses"] is None


def test_a_measurement_has_its_age_and_none_is_of_a_later_day(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11)
    add_order(tables, 11, "aspirin", NOON + 30 * HOUR)
    add_reading(tables, NOON.date() - timedelta(400), "Height (Inches)", 60)
    for days, pounds in ((-3, 150), (0, 151), (1, 152), (2, 153), (9, 154)):
        add_reading(tables, NOON.date() + timedelta(days), "Weight (Lbs)", pounds)
    for predict_at, days, pounds in (("admission", 0, 151), ("24h", 1, 152), ("discharge", 8, 153)):
        sample = ask(tables, predict_at)[11]
        assert sample["weight_kg"] == pytest.approx(pounds * 0.45359237)
        assert sample["weight_age_days"] == (6 if predict_at == "discharge" else 0)
        assert sample["height_age_days"] == 400 + days
        assert (sample["bmi"], sample["bmi_age_days"]) == (None, None)


EGFR = {("M", 60, 1.0): 86.2, ("F", 50, 0.6): 109.3, ("F", 80, 2.5): 19.0, ("M", 25, 0.9): 121.6, ("?", 60, 1.0): None}
"""By sex, age and creatinine, worked out by hand: 142 * (1.0 / 0.9) ** -1.2 * 0.9938 ** 60 = 86.2."""


def test_egfr_is_that_of_ckd_epi_2021_and_unknown_without_a_sex(ask):
    tables = empty()
    for subject, (gender, age, creatinine) in enumerate(EGFR):
        add_patient(tables, subject, gender, age)
        add_stay(tables, subject, subject_id=subject)
        add_order(tables, subject, "aspirin", NOON)
        add_lab(tables, 50912, creatinine, NOON - HOUR, NOON, subject)
    for sample, egfr in zip(ask(tables).values(), EGFR.values(), strict=True):
        assert sample["egfr"] == (egfr if egfr is None else pytest.approx(egfr, abs=0.06))


def test_no_egfr_is_made_of_another_result(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11)
    add_order(tables, 11, "aspirin", NOON)
    add_lab(tables, 50971, 4.0, NOON - HOUR, NOON)
    sample = ask(tables)[11]
    assert (sample["potassium_meq_l"], sample["creatinine_mg_dl"], sample["egfr"]) == (4.0, None, None)


def test_a_result_is_known_from_its_storetime_on(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11)
    add_order(tables, 11, "aspirin", NOON + 30 * HOUR)
    add_lab(tables, 50971, 4.0, NOON - 9 * HOUR, "")  # never stored: as it was charted
    add_lab(tables, 50971, 5.0, NOON - HOUR, NOON + SECOND)
    add_lab(tables, 50822, 6.0, NOON + HOUR, NOON + 24 * HOUR)
    add_lab(tables, 50822, 7.0, NOON + 24 * HOUR + SECOND, "")
    known = {
        predict_at: ask(tables, predict_at)[11]["potassium_meq_l"] for predict_at in ("admission", "24h", "discharge")
    }
    assert known == {"admission": 4.0, "24h": 6.0, "discharge": 7.0}


# --- what was not -------------------------------------------------------------------------------------


def test_orders_yet_to_come_in_an_overlapping_stay_do_not_hide_the_stay_before(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11, NOON - 500 * HOUR)
    add_order(tables, 11, "senna", NOON - 500 * HOUR)
    add_stay(tables, 12, NOON - HOUR)
    add_stay(tables, 13, NOON)
    add_order(tables, 13, "aspirin", NOON)
    assert ask(tables)[13]["previous_drugs"] == ["senna"]
    add_order(tables, 12, "heparin", NOON + HOUR)
    assert ask(tables)[13]["previous_drugs"] == ["senna"]


def test_a_later_order_does_not_make_an_order_without_a_time_later(ask):
    tables = empty()
    add_patient(tables)
    add_stay(tables, 11, NOON - 50 * HOUR)
    add_order(tables, 11, "senna", "")
    add_stay(tables, 12, NOON)
    add_order(tables, 12, "aspirin", NOON)
    assert ask(tables)[12]["previous_drugs"] == ["senna"]
    add_order(tables, 11, "senna", NOON + HOUR)
    assert ask(tables)[12]["previous_drugs"] == ["senna"]


DRUGS = ("aspirin", "heparin", "senna", "furosemide", "insulin", "ondansetron")


def random_hospital(draw: random.Random, patients: int = 25) -> Tables:
    """Patients whose stays overlap as they like, with orders, readings and results at any time around them."""
    tables = empty()
    for subject in range(1, patients + 1):
        add_patient(tables, subject, draw.choice("FM"), draw.randrange(30, 90))
        for number in range(draw.randrange(1, 5)):
            hadm_id, begin = 10 * subject + number, NOON + draw.randrange(-300, 300) * HOUR
            add_stay(tables, hadm_id, begin, draw.randrange(20, 300), subject, draw.randrange(10))
            for _ in range(draw.randrange(6)):
                when = "" if draw.random() < 0.1 else begin + draw.randrange(-10, 200) * HOUR
                add_order(tables, hadm_id, draw.choice(DRUGS), when)
        for _ in range(10):
            day = NOON.date() + timedelta(draw.randrange(-20, 20))
            add_reading(tables, day, "Weight (Lbs)", draw.randrange(90, 300), subject)
            charted = NOON + draw.randrange(-300, 500) * HOUR
            add_lab(tables, draw.choice([50912, 50971]), draw.randrange(1, 9), charted, charted + 3 * HOUR, subject)
    return tables


def without_future(tables: Tables, subject: int, hadm_id: int, when: datetime) -> Tables:
    """Forget all that one patient's files say of the time after `when`; this stay's codes are post hoc by choice."""
    others = {row["hadm_id"]: row for row in tables["admissions"] if row["subject_id"] == subject}
    begun = {other for other, row in others.items() if row["admittime"] <= when}
    ended = {other for other in begun if others[other]["dischtime"] <= when}

    def known(table: str, row: dict[str, Any]) -> bool:
        if row.get("subject_id", subject) != subject or row.get("hadm_id", hadm_id) not in others:
            return True
        match table:
            case "admissions":
                return row["hadm_id"] in begun
            case "diagnoses_icd":
                return row["hadm_id"] in ended | {hadm_id}
            case "prescriptions":
                return row["hadm_id"] in begun and (not row["starttime"] or row["starttime"] <= when)
            case "omr":
                return row["chartdate"] <= when.date()
            case "labevents":
                return row["storetime"] <= when
        return True

    left = {table: [row for row in rows if known(table, row)] for table, rows in tables.items()}
    left["admissions"] = [
        {**row, "dischtime": ""} if row["hadm_id"] in begun - ended else row for row in left["admissions"]
    ]
    add_order(left, hadm_id, "answer", when + HOUR)  # a stay without one is no sample
    return left


def another_future(tables: Tables, subject: int, hadm_id: int, when: datetime, draw: random.Random) -> Tables:
    """Add to one patient's files what happens after `when`."""
    own = [row["hadm_id"] for row in tables["admissions"] if row["subject_id"] == subject]
    later = [when + SECOND, when + 7 * HOUR, when + 99 * HOUR]
    for moment in later:
        add_order(tables, draw.choice(own), draw.choice(DRUGS), moment)
        add_lab(tables, 50971, 9.5, moment - 99 * HOUR, moment, subject)
        add_reading(tables, when.date() + timedelta(1), "Weight (Lbs)", 99, subject)
    add_stay(tables, 100_000 + hadm_id, when + SECOND, 5, subject, 9)
    add_order(tables, 100_000 + hadm_id, "heparin", when + SECOND)
    return tables


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), predict_at=st.sampled_from(PredictAt))
def test_no_fact_of_a_sample_changes_with_what_is_later(ask, seed, predict_at):
    draw = random.Random(seed)
    tables = random_hospital(draw)
    samples = ask(tables, predict_at, codes="both")
    chosen = {draw.choice([s for s in samples.values() if s["subject_id"] == subject])["hadm_id"]
              for subject in {s["subject_id"] for s in samples.values()}}  # fmt: skip
    past = tables
    for hadm_id in chosen:
        past = without_future(past, samples[hadm_id]["subject_id"], hadm_id, samples[hadm_id]["predict_time"])
    other = {table: list(rows) for table, rows in past.items()}
    for hadm_id in chosen:
        sample = samples[hadm_id]
        other = another_future(other, sample["subject_id"], hadm_id, sample["predict_time"], draw)
    for changed in (past, other):
        again = ask(changed, predict_at, codes="both")
        for hadm_id in chosen:
            assert facts(again[hadm_id]) == facts(samples[hadm_id])


def facts(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sample.items() if name not in ("drugs", "split", "dischtime")}
