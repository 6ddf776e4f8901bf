"""Every row is accounted for: cohort.json's counts against a plain reading of the same csv files."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import account
from etl.build import build_cohort
from etl.drug_vocabulary import CATEGORIES, Level, read_drug_vocabulary
from etl.settings import Codes, CohortSettings, PredictAt
from etl.source import needed

RULES = {
    row["rule"]: row for row in csv.DictReader((files("etl") / "vocabulary" / "rules.csv").read_text().splitlines())
}
VOCABULARY = read_drug_vocabulary()
UNITS = {"Height (Inches)": ("height_cm", 2.54), "Weight (Lbs)": ("weight_kg", 0.45359237), "BMI (kg/m2)": ("bmi", 1.0)}
LABS = {"50912": "creatinine_mg_dl", "50971": "potassium_meq_l", "50822": "potassium_meq_l"}

# --- by hand ------------------------------------------------------------------------------------------


def rows(mimic: Path, table: str) -> Iterator[dict[str, str]]:
    packed = mimic / "hosp" / f"{table}.csv.gz"
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else packed.with_suffix("").read_bytes()
    yield from csv.DictReader(io.StringIO(data.decode(), newline=""))


def time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def beyond(rule: str, value: float) -> bool:
    return not float(RULES[rule]["low"]) <= value <= float(RULES[rule]["high"])


def stays(mimic: Path) -> dict[str, dict[str, Any]]:
    """The stays of listed patients, with age and times."""
    patients = {row["subject_id"]: row for row in rows(mimic, "patients")}
    found = {row["hadm_id"]: {**row, **patients[row["subject_id"]]} for row in rows(mimic, "admissions")
             if row["subject_id"] in patients}  # fmt: skip
    for stay in found.values():
        admitted = datetime.fromisoformat(stay["admittime"])
        stay["age"] = int(stay["anchor_age"]) + admitted.year - int(stay["anchor_year"])
        left = time(stay["dischtime"])
        stay["times"] = {
            PredictAt.ADMISSION: admitted,
            PredictAt.DAY: admitted + timedelta(hours=24),
            PredictAt.DISCHARGE: left if left and left >= admitted else admitted,
        }
    return found


def fates(mimic: Path, wanted: CohortSettings, sampled: set[int]) -> Counter[str]:
    """The fate of every order, by the first reason that holds."""
    known, counts = stays(mimic), Counter[str]()
    for order in rows(mimic, "prescriptions"):
        drug = VOCABULARY.look_up(order["drug"])
        if order["drug_type"] != "MAIN":
            counts[f"left out: {order['drug_type'] or 'no type'}, not MAIN"] += 1
        elif order["hadm_id"] not in known:
            counts["left out: no such admission"] += 1
        elif not drug.name:
            counts["left out: no name"] += 1
        elif drug.category in wanted.drop:
            counts[f"left out: category {drug.category}"] += 1
        elif not due(order["starttime"], known[order["hadm_id"]]["times"], wanted):
            counts["left out: outside the window"] += 1
        else:
            counts["kept" if int(order["hadm_id"]) in sampled else "left out: admission excluded"] += 1
    return counts


def due(starttime: str, times: dict[PredictAt, datetime], wanted: CohortSettings) -> bool:
    """An order without a time counts as written at admission."""
    started, asked = time(starttime) or times[PredictAt.ADMISSION], times[wanted.predict_at]
    if wanted.within_hours is not None and started > asked + timedelta(hours=wanted.within_hours):
        return False
    return not (wanted.predict_at is PredictAt.DAY and started <= asked)


def touched(mimic: Path, wanted: CohortSettings) -> Counter[str]:
    """What each rule touched, but for those of orders, which are fates."""
    counts, known = Counter[str](), stays(mimic)
    for row in rows(mimic, "omr"):
        counts.update(omr_rules(row["result_name"], row["result_value"]))
    titled = {(row["icd_code"], row["icd_version"]) for row in rows(mimic, "d_icd_diagnoses")}
    seen = set[tuple[str, str, str]]()
    for row in rows(mimic, "diagnoses_icd"):
        key = (row["hadm_id"], row["icd_code"], row["icd_version"])
        counts["code_unknown_stay"] += row["hadm_id"] not in known
        if row["hadm_id"] in known:
            counts["code_empty"] += not row["icd_code"]
            counts["code_repeated"] += key in seen
            counts["code_untitled"] += bool(row["icd_code"]) and key not in seen and key[1:] not in titled
            seen |= {key} if row["icd_code"] else set()
    for row in rows(mimic, "labevents") if wanted.labs else ():
        if row["itemid"] in LABS and row["valuenum"]:
            counts[LABS[row["itemid"]]] += beyond(LABS[row["itemid"]], float(row["valuenum"]))
    counts["age"] = sum(beyond("age", stay["age"]) for stay in known.values())
    counts["sex_other"] = sum(row["gender"] not in ("F", "M") for row in distinct(mimic, "patients"))
    counts["unlisted_patient"] = sum(row["hadm_id"] not in known for row in distinct(mimic, "admissions"))
    counts["discharge_before_admission"] = sum(
        bool(row["dischtime"]) and row["dischtime"] < row["admittime"] for row in distinct(mimic, "admissions")
    )
    for table in ("patients", "admissions", "d_icd_diagnoses"):
        counts["repeated_row"] += sum(1 for _ in rows(mimic, table)) - len(distinct(mimic, table))
    return counts


def distinct(mimic: Path, table: str) -> list[dict[str, str]]:
    columns = list(needed()[table])
    return [
        dict(zip(columns, row, strict=True)) for row in {tuple(row[c] for c in columns) for row in rows(mimic, table)}
    ]


def omr_rules(name: str, value: str) -> Iterable[str]:
    """The rules that a measurement touches."""
    if name in UNITS:
        quantity, factor = UNITS[name]
        reading = number(value)
        return ["not_a_number"] if reading is None else [quantity] * beyond(quantity, reading * factor)
    if name != "Blood Pressure":
        return ["other_measurement"]
    numbers = [number(part) for part in value.partition("/")[::2]]
    pairs = zip(("systolic_mmhg", "diastolic_mmhg"), numbers, strict=True)
    return ["not_a_number"] * (None in numbers) + [q for q, n in pairs if n is not None and beyond(q, n)]


FATES = {
    "order_category": lambda fate: "category" in fate,
    "order_not_main": lambda fate: fate.endswith("not MAIN"),
    "order_outside_window": lambda fate: fate.endswith("outside the window"),
    "order_unknown_stay": lambda fate: fate.endswith("no such admission"),
    "order_unnamed": lambda fate: fate.endswith("no name"),
}


def sampled_in(run: Path) -> set[int]:
    return set(pl.read_parquet(run / "samples.parquet")["hadm_id"])


# --- a hospital with every fault ----------------------------------------------------------------------


def faulty(tables: dict[str, list[dict[str, Any]]], times: Callable[[str], int]) -> dict[str, list[dict[str, Any]]]:
    """Make the small hospital spotless, then add `times(rule)` rows that break each rule."""
    tables["omr"] = [row for row in tables["omr"] if not omr_rules(row["result_name"], row["result_value"])]
    tables["diagnoses_icd"] = [row for row in tables["diagnoses_icd"] if row["icd_code"] != "99999"]
    tables["prescriptions"] = [
        row for row in tables["prescriptions"]
        if row["drug_type"] == "MAIN" and row["hadm_id"] != "9999" and row["drug"] != "*NF*" and row["starttime"]
    ]  # fmt: skip
    patient, stay, order = tables["patients"][3], tables["admissions"][0], tables["prescriptions"][0]
    reading, code = tables["omr"][0], tables["diagnoses_icd"][0]

    def add(rule: str, table: str, row: dict[str, Any], **changes: Callable[[int], Any] | str) -> None:
        tables[table] += [
            {**row, **{name: change if isinstance(change, str) else change(n) for name, change in changes.items()}}
            for n in range(times(rule))
        ]

    add("age", "patients", patient, subject_id=lambda n: 2000 + n, anchor_age="10")
    add("age", "admissions", tables["admissions"][5], subject_id=lambda n: 2000 + n, hadm_id=lambda n: 2000 + n)
    add("sex_other", "patients", patient, subject_id=lambda n: 3000 + n, gender=lambda n: "?" if n % 2 else "")
    add("repeated_row", "patients", patient)
    add("unlisted_patient", "admissions", stay, subject_id="77", hadm_id=lambda n: 4000 + n)
    add("discharge_before_admission", "admissions", stay, hadm_id=lambda n: 5000 + n, dischtime="2150-03-01 09:59:59")
    for quantity, name, value in (
        ("height_cm", "Height (Inches)", "5"),
        ("weight_kg", "Weight (Lbs)", "1500"),
        ("bmi", "BMI (kg/m2)", "4649.4"),
        ("systolic_mmhg", "Blood Pressure", "20/80"),
        ("diastolic_mmhg", "Blood Pressure", "120/201"),
        ("not_a_number", "Blood Pressure", "120"),
        ("other_measurement", "eGFR", "60"),
    ):
        add(quantity, "omr", reading, result_name=name, result_value=value)
    add("code_empty", "diagnoses_icd", code, icd_code="")
    add("code_repeated", "diagnoses_icd", code, seq_num=lambda n: 20 + n)
    add("code_untitled", "diagnoses_icd", code, icd_code=lambda n: f"Z{n}")
    add("code_unknown_stay", "diagnoses_icd", code, hadm_id="88")
    add("order_category", "prescriptions", order, drug="Syringe")
    add("order_not_main", "prescriptions", order, drug_type=lambda n: ("BASE", "ADDITIVE", "")[n % 3])
    add(
        "order_outside_window",
        "prescriptions",
        order,
        starttime=lambda n: f"2150-04-0{1 + n % 9} 00:00:00",
    )
    add("order_unknown_stay", "prescriptions", order, hadm_id="88")
    add("order_unnamed", "prescriptions", order, drug=" *NF* ")
    return tables


def write_labs(mimic: Path, times: Callable[[str], int]) -> Path:
    """Add labevents: good ones, ones of other items, and bad ones."""
    lines = [
        "101,50912,2150-03-01 09:00:00,,1.0",
        "101,51277,2150-03-01 09:00:00,,999",
        "101,50971,2150-03-01 09:00:00,,",
    ]
    lines += ["101,50912,2150-03-01 09:00:00,,40.1"] * times("creatinine_mg_dl")
    lines += ["101,50822,2150-03-01 09:00:00,,0.9"] * times("potassium_meq_l")
    header = "subject_id,itemid,charttime,storetime,valuenum"
    (mimic / "hosp" / "labevents.csv").write_text("\n".join([header, *lines]) + "\n")
    return mimic


def in_turn(rule: str) -> int:
    """A number of its own for each rule, so that no two can be taken for each other."""
    return 1 + list(RULES).index(rule)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, fresh_tables, write_tables) -> Path:
    folder = tmp_path_factory.mktemp("faulty") / "mimic"
    return write_labs(write_tables(folder, faulty(fresh_tables(), in_turn)), in_turn)


# --- what is proved -----------------------------------------------------------------------------------


def test_every_rule_has_a_query_and_every_query_a_rule():
    assert set(account._RULES) == set(RULES)


def test_each_rule_touches_the_rows_that_break_it_and_no_others(hospital, tmp_path, fresh_tables, write_tables):
    wanted = CohortSettings(within_hours=96, labs=True, open_data=True)
    cohort = build_cohort(hospital, tmp_path / "run", wanted)
    assert {rule["rule"]: rule["touched"] for rule in cohort["rules"]} == {rule: in_turn(rule) for rule in RULES}
    spotless = write_labs(write_tables(tmp_path / "spotless", faulty(fresh_tables(), lambda rule: 0)), lambda rule: 0)
    cohort = build_cohort(spotless, tmp_path / "other", wanted)
    assert {rule["rule"]: rule["touched"] for rule in cohort["rules"]} == dict.fromkeys(RULES, 0)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    predict_at=st.sampled_from(PredictAt),
    within_hours=st.none() | st.sampled_from([1, 2, 24, 10_000]),
    drop=st.sets(st.sampled_from(CATEGORIES)).map(lambda names: tuple(sorted(names))),
    level=st.sampled_from(Level),
    codes=st.sampled_from(Codes),
)
def test_every_order_has_one_fate_and_it_is_the_one_a_plain_reading_finds(
    hospital, tmp_path_factory, predict_at, within_hours, drop, level, codes
):
    within_hours = None if predict_at is PredictAt.DISCHARGE else within_hours
    wanted = CohortSettings(predict_at, within_hours, codes, level, drop, open_data=True)
    run = tmp_path_factory.mktemp("fates") / "run"
    orders = build_cohort(hospital, run, wanted)["orders"]
    read = orders.pop("read")
    assert read == sum(orders.values()) == sum(1 for _ in rows(hospital, "prescriptions"))
    assert orders == fates(hospital, wanted, sampled_in(run))


@pytest.mark.demo_data
@pytest.mark.parametrize(
    "wanted",
    [
        CohortSettings(labs=True, open_data=True),
        CohortSettings(PredictAt.DAY, 48, Codes.BOTH, Level.ATC4, CATEGORIES, labs=True, open_data=True),
    ],
    ids=["admission", "24h"],
)
def test_the_demos_counts_are_those_of_a_plain_reading_for_every_rule(mimic_demo, tmp_path, wanted):
    cohort = build_cohort(mimic_demo, tmp_path / "run", wanted)
    orders = fates(mimic_demo, wanted, sampled_in(tmp_path / "run"))
    assert cohort["orders"] == {"read": 18_087, **orders}
    counts = touched(mimic_demo, wanted)
    for rule, of_it in FATES.items():
        counts[rule] = sum(number for fate, number in orders.items() if of_it(fate))
    assert {rule["rule"]: rule["touched"] for rule in cohort["rules"]} == {rule: counts[rule] for rule in RULES}
    assert (counts["height_cm"], counts["bmi"], counts["order_not_main"]) == (1, 1, 3_677 + 19)


def test_the_plain_reading_agrees_on_the_faulty_hospital_too(hospital):
    counts = touched(hospital, CohortSettings(labs=True))
    assert {rule: counts[rule] for rule in RULES if rule not in FATES} == {
        rule: in_turn(rule) for rule in RULES if rule not in FATES
    }
