"""A cohort's folder: whole, the one asked for, the same bytes; or what stood there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.build import build_cohort
from etl.cohort import read_cohort
from etl.errors import ContractError, SourceDataError
from etl.settings import CohortSettings, PredictAt, SplitBy

OUTPUTS = {
    *("cohort.html", "cohort.json", "evidence.parquet", "formulary.parquet", "icd_titles.parquet", "samples.parquet")
}


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.demo_data
def test_the_demo_gives_the_same_bytes_twice(demo_run, mimic_demo, tmp_path):
    build_cohort(mimic_demo, tmp_path / "again", CohortSettings(open_data=True))
    first, second = all_bytes(demo_run), all_bytes(tmp_path / "again")
    assert set(first) == set(second) == OUTPUTS
    assert [name for name in first if first[name] != second[name]] == []


def test_a_whole_cohort_is_reused_and_not_a_byte_or_time_of_it_changes(tiny_hospital, tmp_path):
    first = build_cohort(tiny_hospital, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    stages: list[str] = []
    again = build_cohort(tiny_hospital, tmp_path / "run", told=lambda stage, done, total: stages.append(stage))
    assert again == first
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
    assert read_cohort(run)["settings"]["seed"] == 1
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


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (CohortSettings(predict_at=PredictAt.DISCHARGE), "predict_at"),
        (CohortSettings(drop=(), open_data=True), "drop, open_data"),
        (CohortSettings(split=SplitBy.FOLD), "split, folds, fold"),
    ],
)
def test_other_settings_are_refused_by_name(tiny_hospital, tiny_cohort, other, named):
    with pytest.raises(ContractError, match=rf"differs in {named};"):
        build_cohort(tiny_hospital, tiny_cohort, other)


def test_bad_input_leaves_the_cohort_that_stands_and_nothing_else(tables, write_tables, tmp_path):
    build_cohort(write_tables(tmp_path / "good", tables), tmp_path / "out" / "run")
    before = all_bytes(tmp_path / "out")
    tables["omr"][0]["chartdate"] = "some day"
    bad = write_tables(tmp_path / "bad", tables)
    with pytest.raises(SourceDataError, match="column chartdate"):
        build_cohort(bad, tmp_path / "out" / "run", overwrite=True)
    assert all_bytes(tmp_path / "out") == before
