"""Admissions of the demo from csv to prompt, by a reading that shares nothing with the SQL but how a drug is spelt."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl.build import build_cohort
from etl.cohort import SPLITS, read_prompts
from etl.drug_vocabulary import DEFAULT_DROP, read_drug_vocabulary
from etl.settings import Codes, CohortSettings, PredictAt

Row = dict[str, str]

TRACED = {
    25797028: "ICD-9, the first of seven stays, weighed again after discharge",
    28295257: "ICD-10, five years after the last stay with orders, weighed twice on the day of admission",
    27703517: "a drug marked *NF*; height and weight known only after discharge",
    26739864: "over 89; the patient whose height is once given as 5 inches",
    22585261: "the only stay of its patient; a height corrected after discharge",
}
PLAUSIBLE = {"Height (Inches)": (48, 90), "Weight (Lbs)": (56, 881), "BMI (kg/m2)": (10, 100)}


class Reader:
    """The demo's files, read as a clerk would: one patient at a time."""

    def __init__(self, demo: Path) -> None:
        def rows(table: str) -> list[Row]:
            with gzip.open(demo / "hosp" / f"{table}.csv.gz", "rt", encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))

        def by(key: str, table: str) -> dict[str, list[Row]]:
            grouped = defaultdict(list)
            for row in rows(table):
                grouped[row[key]].append(row)
            return grouped

        self.patients = {row["subject_id"]: row for row in rows("patients")}
        self.stays = by("subject_id", "admissions")
        self.orders, self.codes = by("hadm_id", "prescriptions"), by("hadm_id", "diagnoses_icd")
        self.omr = by("subject_id", "omr")
        self.titles = {(row["icd_code"], row["icd_version"]): row["long_title"] for row in rows("d_icd_diagnoses")}
        self.vocabulary = read_drug_vocabulary()

    def first_orders(self, hadm_id: str) -> dict[str, str]:
        """Each drug of a stay with the time of its first order, in that order; MIMIC's times sort as text."""
        first: dict[str, str] = {}
        for order in self.orders[hadm_id]:
            drug = self.vocabulary.look_up(order["drug"])
            if order["drug_type"] == "MAIN" and drug.name and drug.category not in DEFAULT_DROP:
                first[drug.name] = min(order["starttime"], first.get(drug.name, "9999"))
        return dict(sorted(first.items(), key=lambda item: (item[1], item[0])))

    def drugs_by(self, hadm_id: str, when: str) -> list[str]:
        return [drug for drug, first in self.first_orders(hadm_id).items() if first <= when]

    def previous(self, stay: Row, when: str) -> list[str]:
        earlier = [s for s in self.stays[stay["subject_id"]] if s["admittime"] < stay["admittime"]]
        with_drugs = [s for s in earlier if self.drugs_by(s["hadm_id"], when)]
        last = max(with_drugs, key=lambda s: s["admittime"], default=None)
        return self.drugs_by(last["hadm_id"], when) if last else []

    def diagnoses(self, *hadm_ids: str) -> list[str]:
        """The titles of the codes of some stays, each code once, where it comes first."""
        ranked = [
            row for hadm_id in hadm_ids for row in sorted(self.codes[hadm_id], key=lambda row: int(row["seq_num"]))
        ]
        codes = dict.fromkeys((row["icd_code"], row["icd_version"]) for row in ranked)
        return [f"- {self.titles[code]}" for code in codes]

    def earlier_stays(self, stay: Row, when: str) -> list[str]:
        others = [s for s in self.stays[stay["subject_id"]] if s is not stay and s["dischtime"] <= when]
        return [s["hadm_id"] for s in sorted(others, key=lambda s: s["admittime"], reverse=True)]

    def readings(self, stay: Row, when: str, name: str) -> list[str]:
        """Values up to the day, in the order they were entered."""
        rows = [r for r in self.omr[stay["subject_id"]] if r["result_name"] == name and r["chartdate"] <= when[:10]]
        return [r["result_value"] for r in sorted(rows, key=lambda r: (r["chartdate"], int(r["seq_num"])))]

    def measured(self, stay: Row, when: str, name: str) -> float | None:
        low, high = PLAUSIBLE[name]
        found = [float(value) for value in self.readings(stay, when, name) if low < float(value) < high]
        return found[-1] if found else None

    def age(self, stay: Row) -> str:
        patient = self.patients[stay["subject_id"]]
        age = int(patient["anchor_age"]) + int(stay["admittime"][:4]) - int(patient["anchor_year"])
        return "over 89" if age > 89 else str(age)

    def prompt(self, stay: Row, when: str, *, within: bool) -> str:
        """The user's message: at admission with this stay's codes, or within it with those of earlier stays too."""
        inches, pounds = (self.measured(stay, when, name) for name in ("Height (Inches)", "Weight (Lbs)"))
        bmi = self.measured(stay, when, "BMI (kg/m2)")
        if bmi is None and inches and pounds:
            bmi = pounds * 0.45359237 / (inches * 0.0254) ** 2
        lines = [
            f"Age: {self.age(stay)}",
            f"Sex: {self.patients[stay['subject_id']]['gender']}",
            f"Height: {inches * 2.54:.0f} cm" if inches else "Height: unknown",
            f"Weight: {pounds * 0.45359237:.0f} kg" if pounds else "Weight: unknown",
            f"BMI: {bmi:.0f}" if bmi else "BMI: unknown",
            f"Blood pressure: {['unknown', *self.readings(stay, when, 'Blood Pressure')][-1]}",
            f"Previous drugs: {'; '.join(self.previous(stay, when)) or 'none known'}",
        ]
        if within:
            lines.append(f"Drugs so far: {'; '.join(self.drugs_by(stay['hadm_id'], when)) or 'none known'}")
        lines += ["Diagnoses:", *self.diagnoses(stay["hadm_id"])]
        if within:
            earlier = self.diagnoses(*self.earlier_stays(stay, when))
            lines += ["Earlier diagnoses:", *earlier] if earlier else ["Earlier diagnoses: none known"]
        return "\n".join(lines)

    def answer(self, stay: Row, when: str, *, within: bool) -> str:
        """Every drug of the stay; within it those with an order to come."""
        later = {self.vocabulary.look_up(order["drug"]).name for order in self.orders[stay["hadm_id"]]
                 if order["drug_type"] == "MAIN" and order["starttime"] > when}  # fmt: skip
        return "\n".join(drug for drug in self.first_orders(stay["hadm_id"]) if not within or drug in later)


@pytest.fixture(scope="module")
def reader(mimic_demo: Path) -> Reader:
    return Reader(mimic_demo)


@pytest.fixture(scope="module")
def asked(request, mimic_demo: Path, reader: Reader, tmp_path_factory) -> dict[int, tuple[list[str], list[str]]]:
    """By hadm_id: question and answer as the cohort has them, and as the reader finds them."""
    within = request.param == "within the stay"
    run = tmp_path_factory.mktemp("traced") / "run"
    wanted = {"predict_at": PredictAt.DAY, "codes": Codes.BOTH} if within else {}
    build_cohort(mimic_demo, run, CohortSettings(**wanted))
    stays = {int(stay["hadm_id"]): stay for of_one in reader.stays.values() for stay in of_one}
    found = {}
    for made in (made for split in SPLITS for made in read_prompts(run, split)):
        stay = stays[made["hadm_id"]]
        when = str(datetime.fromisoformat(stay["admittime"]) + timedelta(hours=24 * within))
        by_hand = [reader.prompt(stay, when, within=within), reader.answer(stay, when, within=within)]
        found[made["hadm_id"]] = ([message["content"] for message in made["messages"][1:]], by_hand)
    return found


@pytest.mark.demo_data
@pytest.mark.parametrize("asked", ["at admission"], indirect=True)
@pytest.mark.parametrize("hadm_id", TRACED, ids=TRACED.values())
def test_a_traced_admission_reads_as_its_csv_rows_say(asked, hadm_id):
    made, by_hand = asked[hadm_id]
    assert made == by_hand


@pytest.mark.demo_data
@pytest.mark.parametrize("asked", ["at admission", "within the stay"], indirect=True)
def test_every_admission_reads_as_its_csv_rows_say(asked):
    assert len(asked) > 200
    assert [hadm_id for hadm_id, (made, by_hand) in asked.items() if made != by_hand] == []
