"""A cohort as MEDS events: every fact once, where it is known, in the standard's columns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.build import build_cohort
from etl.export import Format, export
from etl.settings import Codes, CohortSettings, PredictAt

MEDS_SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}


@pytest.fixture(scope="session")
def events(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meds") / "out"
    export(tiny_cohort, folder, Format.MEDS)
    return folder


def shards(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    for name, split in MEDS_SPLITS.items():
        yield split, pl.read_parquet(folder / "data" / name / "0.parquet")


def test_events_have_the_columns_of_the_standard(events: Path) -> None:
    """meds 0.4.1, schema.py: DataSchema, CodeMetadataSchema, SubjectSplitSchema."""
    for _, shard in shards(events):
        assert shard.schema == {
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
            "hadm_id": pl.Int64,
        }
        assert not shard["subject_id"].has_nulls()
        assert not shard["code"].has_nulls()
    codes = pl.read_parquet(events / "metadata" / "codes.parquet")
    assert codes.schema == {"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
    subjects = pl.read_parquet(events / "metadata" / "subject_splits.parquet")
    assert subjects.schema == {"subject_id": pl.Int64, "split": pl.String}


def test_each_subject_is_in_one_shard_in_one_piece_and_in_order_of_time(events: Path) -> None:
    subjects: list[tuple[int, str]] = []
    for split, shard in shards(events):
        name = next(meds for meds, ours in MEDS_SPLITS.items() if ours == split)
        subjects += [(subject, name) for subject, _ in groupby(shard["subject_id"])]
        for _, of_subject in shard.group_by("subject_id"):
            assert of_subject["time"].is_sorted(nulls_last=False)
    assert len({subject for subject, _ in subjects}) == len(subjects)
    assert pl.read_parquet(events / "metadata" / "subject_splits.parquet").rows() == sorted(subjects)


Event = tuple[int, datetime | None, str, float | None, int | None]


def facts(sample: dict[str, Any]) -> Iterator[Event]:
    """Yield a sample's events as docs/formats.md has them; numbers rounded, as float32 does."""
    subject, stay = sample["subject_id"], sample["hadm_id"]
    begin, asked, end = sample["admittime"], sample["predict_time"], sample["dischtime"]
    yield subject, None, f"GENDER//{sample['sex']}", None, None
    yield subject, begin, f"HOSPITAL_ADMISSION//{sample['admission_type']}", None, stay
    yield subject, begin, "AGE", sample["age"], stay
    yield subject, begin, f"RACE//{sample['race']}", None, stay
    yield subject, end, "HOSPITAL_DISCHARGE", None, stay
    for drug in sample["current_drugs"] or ():
        yield subject, asked, f"DRUG//{drug}", None, stay
    for drug in sample["drugs"]:
        yield subject, end, f"DRUG//{drug}", None, stay
    coded, known = (sample["diagnoses"], end) if sample["diagnoses"] else (sample["earlier_diagnoses"], begin)
    for code in coded or ():
        yield subject, known, f"DIAGNOSIS//ICD{code['icd_version']}CM//{code['icd_code']}", None, stay
    for name in ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg"):
        if sample[name] is not None:
            days = sample["blood_pressure_age_days" if "mmhg" in name else name.split("_")[0] + "_age_days"]
            day = datetime.combine(asked.date() - timedelta(days=days), time())
            yield subject, day, f"OMR//{name}", round(sample[name], 3), None


@pytest.mark.parametrize("asked", [{}, {"predict_at": PredictAt.DAY, "codes": Codes.EARLIER}])
def test_every_fact_of_a_sample_is_one_event_and_every_event_a_fact(
    tiny_hospital: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    build_cohort(tiny_hospital, tmp_path / "run", CohortSettings(**asked))
    export(tmp_path / "run", tmp_path / "out", Format.MEDS)
    for split, shard in shards(tmp_path / "out"):
        samples = pl.read_parquet(tmp_path / "run" / "samples.parquet").filter(pl.col("split") == split)
        expected = {fact for sample in samples.iter_rows(named=True) for fact in facts(sample)}
        found = [(*event[:3], event[3] and round(event[3], 3), event[4]) for event in shard.rows()]
        assert len(found) == len(expected)
        assert set(found) == expected


def test_cutting_at_admission_hides_what_a_stay_comes_to(tiny_cohort: Path, events: Path) -> None:
    admittimes = pl.read_parquet(tiny_cohort / "samples.parquet").select("hadm_id", "admittime", "dischtime")
    of_stays = pl.concat(shard for _, shard in shards(events)).join(admittimes, on="hadm_id")
    outcome = of_stays.filter(pl.col("code").str.contains("^(DRUG|DIAGNOSIS)//"))
    assert outcome.filter(pl.col("time") < pl.col("dischtime")).is_empty()
    assert not outcome.is_empty()


def test_every_code_is_described_once_and_diagnoses_by_their_titles(tiny_cohort: Path, events: Path) -> None:
    codes = pl.read_parquet(events / "metadata" / "codes.parquet")
    used = {code for _, shard in shards(events) for code in shard["code"]}
    assert sorted(used) == codes["code"].to_list()
    described = codes.filter(pl.col("code").str.starts_with("DIAGNOSIS//"))
    assert not described["description"].has_nulls()


def test_what_a_stay_without_an_end_came_to_is_left_out_and_counted(tiny_cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_cohort, run)
    samples = pl.read_parquet(run / "samples.parquet")
    stay = samples.row(0, named=True)
    ends = pl.when(pl.col("hadm_id") != stay["hadm_id"]).then("dischtime")
    samples.with_columns(dischtime=ends).write_parquet(run / "samples.parquet")
    exported = export(run, tmp_path / "out", Format.MEDS)
    left_out = {f"DRUG//{drug}" for drug in stay["drugs"]} | {"HOSPITAL_DISCHARGE"}
    left_out |= {f"DIAGNOSIS//ICD{d['icd_version']}CM//{d['icd_code']}" for d in stay["diagnoses"]}
    assert exported["left out: no time is known"] == len(left_out)
    codes = pl.concat(shard for _, shard in shards(tmp_path / "out")).filter(pl.col("hadm_id") == stay["hadm_id"])
    assert not left_out & set(codes["code"])
    assert any(code.startswith("HOSPITAL_ADMISSION//") for code in codes["code"])
