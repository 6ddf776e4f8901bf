"""The job that every contender does, in words and constants; none of them imports more of ours than the normaliser.

From the six tables of a MIMIC-IV folder (csv.gz) make `samples.parquet`, one row per stay with at least one
diagnosis and one MAIN drug, in the order of subject_id, admittime, hadm_id:

    subject_id, hadm_id, split          split by MD5 of the patient's number
    age, sex, race, admission_type      age = anchor_age + year(admittime) - anchor_year
    height_cm ... diastolic_mmhg        last plausible reading at or before the day of admission; of one day's the
                                        highest seq_num, then the value that sorts last; a pressure whole or not
    diagnoses                           [{icd_code, icd_version, title}], by seq_num; a repeated code once
    drugs                               normalised names of MAIN orders, by first starttime, then name
    previous_drugs                      those of the patient's last earlier stay that has any; ours leaves out the few
                                        that were ordered after this stay began
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

COLUMNS = {
    "patients": ["subject_id", "gender", "anchor_age", "anchor_year"],
    "admissions": ["subject_id", "hadm_id", "admittime", "admission_type", "race"],
    "diagnoses_icd": ["hadm_id", "seq_num", "icd_code", "icd_version"],
    "d_icd_diagnoses": ["icd_code", "icd_version", "long_title"],
    "prescriptions": ["hadm_id", "starttime", "drug_type", "drug"],
    "omr": ["subject_id", "chartdate", "seq_num", "result_name", "result_value"],
}
"""What the join needs of each table."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number in an omr value: which, times what, and the bounds within which it is plausible."""

    quantity: str
    result_name: str
    part: int
    factor: float
    low: float
    high: float


MEASUREMENTS = (
    Measurement("height_cm", "Height (Inches)", 0, 2.54, 120, 230),
    Measurement("weight_kg", "Weight (Lbs)", 0, 0.45359237, 25, 400),
    Measurement("bmi", "BMI (kg/m2)", 0, 1, 10, 100),
    Measurement("systolic_mmhg", "Blood Pressure", 0, 1, 50, 300),
    Measurement("diastolic_mmhg", "Blood Pressure", 1, 1, 20, 200),
)


def split_of(subject_id: int) -> str:
    """Return the split of a patient under seed 0: 80 % train, 10 % validation, 10 % test."""
    place = int(hashlib.md5(f"{subject_id}:0".encode(), usedforsecurity=False).hexdigest()[:8], 16) / 2**32
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"


def arguments(description: str | None) -> tuple[Path, Path]:
    """Return the hosp/ folder to read and the samples.parquet to write, in a folder made for it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mimic", type=Path, required=True, help="folder that holds hosp/*.csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for samples.parquet")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options.mimic / "hosp", options.out / "samples.parquet"
