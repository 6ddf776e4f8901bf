"""A hospital small enough to read: four patients, written as MIMIC files in any order and format."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rxdraft
from etl.build import build_cohort
from etl.settings import CohortSettings

Tables = dict[str, list[dict[str, Any]]]

COLUMNS = {
    "patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,race,hospital_expire_flag",
    "diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "d_icd_diagnoses": "icd_code,icd_version,long_title",
    "prescriptions": "subject_id,hadm_id,starttime,stoptime,drug_type,drug,ndc,route",
    "omr": "subject_id,chartdate,seq_num,result_name,result_value",
}

ROWS = {
    "patients": """
        101,F,60,2150,2008 - 2010,
        102,M,91,2160,2011 - 2013,
        103,F,45,2140,2014 - 2016,
        104,M,30,2130,2008 - 2010,
    """,
    # 101 has three stays, the second without orders; 104 has no diagnosis.
    "admissions": """
        101,1001,2150-03-01 10:00:00,2150-03-05 12:00:00,,EW EMER.,WHITE,0
        101,1002,2151-05-01 10:00:00,2151-05-01 20:00:00,,EU OBSERVATION,WHITE,0
        101,1003,2153-07-01 10:00:00,2153-07-04 12:00:00,,URGENT,OTHER,0
        102,1004,2161-01-10 08:00:00,2161-01-12 09:30:00,,ELECTIVE,ASIAN,0
        103,1005,2141-02-01 23:50:00,2141-02-03 00:10:00,,EW EMER.,WHITE,0
        104,1006,2130-06-01 10:00:00,2130-06-02 12:00:00,,EW EMER.,WHITE,0
    """,
    "diagnoses_icd": """
        101,1001,2,0389,9
        101,1001,1,E8801,9
        101,1002,1,4019,9
        101,1003,1,E8801,10
        101,1003,2,I10,10
        102,1004,1,I10,10
        103,1005,1,99999,9
        103,1005,2,4019,9
    """,
    "d_icd_diagnoses": """
        0389,9,Unspecified septicemia
        389,9,Hearing loss
        E8801,9,Accidental fall from sidewalk curb
        E8801,10,Alpha-1-antitrypsin deficiency
        4019,9,Unspecified essential hypertension
        I10,10,Essential (primary) hypertension
    """,
    "prescriptions": """
        101,1001,2150-03-01 12:00:00,2150-03-02 12:00:00,MAIN,Senna,0,PO
        101,1001,2150-03-01 12:00:00,2150-03-02 12:00:00,MAIN,LORazepam,0,IV
        101,1001,2150-03-01 11:00:00,2150-03-02 12:00:00,MAIN,Sodium Chloride 0.9%  Flush,0,IV
        101,1001,2150-03-01 11:00:00,2150-03-02 12:00:00,BASE,5% Dextrose,0,IV
        101,1001,2150-03-02 11:00:00,2150-03-02 12:00:00,MAIN,lorazepam ,0,IV
        101,1003,2153-07-01 14:00:00,2153-07-02 14:00:00,MAIN,*NF* Ertapenem,0,IV
        101,1003,2153-07-01 12:00:00,2153-07-02 14:00:00,MAIN,Senna,0,PO
        101,1003,2153-07-01 12:00:00,2153-07-02 14:00:00,ADDITIVE,Thiamine,0,IV
        102,1004,2161-01-10 09:00:00,,MAIN,Aspirin,0,PO
        103,1005,2141-02-01 23:55:00,2141-02-02 14:00:00,MAIN,Heparin,0,SC
        103,1005,,2141-02-02 14:00:00,MAIN,Aspirin,0,PO
        104,1006,2130-06-01 11:00:00,2130-06-02 14:00:00,MAIN,Aspirin,0,PO
        101,9999,2150-03-01 11:00:00,2150-03-02 12:00:00,MAIN,Aspirin,0,PO
        101,1001,2150-03-01 11:00:00,2150-03-02 12:00:00,MAIN,*NF*,0,PO
    """,
    "omr": """
        101,2150-03-01,1,Weight (Lbs),150
        101,2150-03-01,2,Weight (Lbs),152
        101,2150-03-06,1,Weight (Lbs),160
        101,2150-02-01,1,Height (Inches),5
        101,2150-01-01,1,Height (Inches),64
        101,2150-02-01,1,Blood Pressure,110/70
        102,2161-01-12,1,BMI (kg/m2),4649.4
        102,2161-01-11,1,BMI (kg/m2),24.5
        103,2141-02-01,1,Blood Pressure Sitting,120/80
    """,
}


def fresh_tables() -> Tables:
    """Return the small hospital's rows, to be changed by a test."""
    return {
        table: [
            dict(zip(columns.split(","), line.strip(" ").split(","), strict=True))
            for line in ROWS[table].strip().split("\n")
        ]
        for table, columns in COLUMNS.items()
    }


def write_tables(folder: Path, tables: Tables, formats: dict[str, str] | None = None) -> Path:
    """Write the tables as folder/hosp/*; `formats` gives a table's suffix, csv.gz where it gives none."""
    hosp = folder / "hosp"
    hosp.mkdir(parents=True)
    for table, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS[table].split(","), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        suffix = (formats or {}).get(table, "csv.gz")
        path = hosp / f"{table}.{suffix}"
        if suffix == "csv":
            path.write_text(text.getvalue(), encoding="utf-8")
        elif suffix == "csv.gz":
            path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        else:
            typed(pl.read_csv(io.StringIO(text.getvalue()), infer_schema=False)).write_parquet(path)
    return folder


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Give numbers and times the types a Parquet release would have."""
    numbers = ("subject_id", "hadm_id", "seq_num", "icd_version", "anchor_age", "anchor_year")
    times = ("admittime", "dischtime", "starttime", "stoptime")
    return frame.with_columns(
        pl.col(*(n for n in numbers if n in frame.columns)).cast(pl.Int64, strict=False),
        *(pl.col(name).str.to_datetime() for name in times if name in frame.columns),
        *(pl.col(name).str.to_date() for name in ("chartdate",) if name in frame.columns),
    )


@pytest.fixture
def tables() -> Tables:
    return fresh_tables()


@pytest.fixture(scope="session", name="fresh_tables")
def _fresh_tables() -> Callable[[], Tables]:
    return fresh_tables


@pytest.fixture(scope="session", name="write_tables")
def _write_tables() -> Callable[..., Path]:
    return write_tables


@pytest.fixture(scope="session")
def cohort_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write tables, build their cohort, by settings other than the default, and return its folder."""

    def build(tables: Tables, formats: dict[str, str] | None = None, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp("small")
        write_tables(folder / "mimic", tables, formats)
        build_cohort(folder / "mimic", folder / "run", CohortSettings(**{"open_data": True, **options}))
        return folder / "run"

    return build


@pytest.fixture(scope="session")
def demo_run(mimic_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort of the open demo, every count shown."""
    run = tmp_path_factory.mktemp("demo") / "run"
    build_cohort(mimic_demo, run, CohortSettings(open_data=True))
    return run


@pytest.fixture(scope="session")
def samples_of(cohort_of: Callable[..., Path]) -> Callable[..., dict[int, dict[str, Any]]]:
    """Return the small cohort's samples by hadm_id."""

    def build(tables: Tables, **options: Any) -> dict[int, dict[str, Any]]:
        frame = pl.read_parquet(cohort_of(tables, **options) / "samples.parquet")
        return {row["hadm_id"]: row for row in frame.iter_rows(named=True)}

    return build


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `rxdraft` in this process; return exit status, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rxdraft", *map(str, arguments)])
        capsys.readouterr()
        try:
            rxdraft.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        out, err = capsys.readouterr()
        return status, out, err

    return call
