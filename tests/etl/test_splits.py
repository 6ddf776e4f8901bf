"""Who is train, validation and test: sql/splits.sql over hospitals of patients alone, and who may open the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.build import build_cohort
from etl.cohort import SPLITS, read_prompts, read_samples, read_training_prompts
from etl.errors import ContractError
from etl.settings import CohortSettings, SplitBy
from etl.warehouse import read_models
from training.config import load_config
from training.loop import train

[QUERY] = [model.query for model in read_models() if model.table == "splits"]
Patients = dict[int, str | None]
"""The anchor_year_group of each patient."""


def dealt(patients: Patients, split: str, seed: int = 0, folds: int = 5, fold: int = 0) -> dict[int, str]:
    """Return each patient's split."""
    with duckdb.connect() as con:
        groups = pl.DataFrame(
            {"subject_id": list(patients), "anchor_year_group": list(patients.values())},
            schema={"subject_id": pl.Int64, "anchor_year_group": pl.String},
        )
        con.register("admissions", pl.concat([groups, groups]).to_arrow())  # two stays each
        con.execute(
            "CREATE TABLE settings AS SELECT ? AS split, ? AS split_seed, ?::INTEGER AS folds, ?::INTEGER AS fold",
            [split, str(seed), folds, fold],
        ).fetchall()
        rows = con.execute(QUERY).fetchall()
    assert len(rows) == len(patients)
    return dict(rows)


subjects = st.sets(st.integers(10_000_000, 20_000_000), max_size=60).map(lambda ids: dict.fromkeys(ids, "2008 - 2010"))
seeds = st.integers(0, 10**9)


# --- by patient ---------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(patients=subjects, others=subjects, seed=seeds)
def test_a_patient_keeps_the_split_when_others_come_or_go(patients, others, seed):
    alone, together = dealt(patients, "patient", seed), dealt({**others, **patients}, "patient", seed)
    assert {subject: together[subject] for subject in patients} == alone


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_eight_of_ten_train_one_validates_one_tests(seed):
    counts = Counter(dealt(dict.fromkeys(range(10_000_000, 10_020_000), None), "patient", seed).values())
    # Three standard deviations of 20,000 draws.
    assert counts["train"] == pytest.approx(16_000, abs=170)
    assert counts["validation"] == pytest.approx(2_000, abs=128)
    assert counts["test"] == pytest.approx(2_000, abs=128)


def test_another_seed_deals_anew():
    patients = dict.fromkeys(range(10_000_000, 10_002_000), None)
    first, other = dealt(patients, "patient", 0), dealt(patients, "patient", 1)
    # Were the two independent, 0.8² + 0.1² + 0.1² of all would agree.
    assert sum(first[p] == other[p] for p in patients) / 2000 == pytest.approx(0.66, abs=0.04)


# --- by fold ------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(patients=subjects, seed=seeds, folds=st.integers(3, 8))
def test_each_patient_is_test_in_one_fold_and_validation_in_another(patients, seed, folds):
    rounds = [dealt(patients, "fold", seed, folds, fold) for fold in range(folds)]
    for subject in patients:
        splits = [each[subject] for each in rounds]
        assert Counter(splits) == {"test": 1, "validation": 1, "train": folds - 2}
        assert splits[splits.index("test") - 1] == "validation"  # the next fold's test is this one's validation


@pytest.mark.parametrize("folds", [3, 10])
def test_folds_are_of_about_one_size(folds):
    patients = dict.fromkeys(range(10_000_000, 10_020_000), None)
    for fold in (0, folds - 1):
        counts = Counter(dealt(patients, "fold", 4, folds, fold).values())
        assert counts["test"] == pytest.approx(20_000 / folds, rel=0.07)


# --- by time ------------------------------------------------------------------------------------------

GROUPS = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019", "2020 - 2022")


@settings(max_examples=15)
@given(
    patients=st.dictionaries(st.integers(1, 10**8), st.none() | st.sampled_from(GROUPS), max_size=40),
    seed=seeds,
)
def test_nobody_who_trains_is_of_later_years_than_who_validates_or_tests(patients, seed):
    patients |= {10**9 + number: group for number, group in enumerate(GROUPS[1:4])}  # at least three groups
    split = dealt(patients, "time", seed)
    last, before = sorted({group for group in patients.values() if group}, reverse=True)[:2]
    wanted = {last: "test", before: "validation"}
    assert split == {subject: wanted.get(group or "", "train") for subject, group in patients.items()}


@pytest.mark.parametrize("groups", [["2008 - 2010"], ["2008 - 2010", "2011 - 2013"], ["2008 - 2010", ""]])
def test_fewer_than_three_groups_of_years_are_refused(tmp_path, tables, write_tables, command, groups):
    for number, row in enumerate(tables["patients"]):
        row["anchor_year_group"] = groups[number % len(groups)]
    mimic = write_tables(tmp_path / "mimic", tables)
    status, out, err = command("etl", "--mimic", mimic, "--out", tmp_path / "run", "--split", "time")
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert f"--split time needs 3 or more anchor_year_group values, found {len(set(groups) - {''})}" in err
    assert not (tmp_path / "run").exists()


# --- in the cohort, and in training -------------------------------------------------------------------


@pytest.mark.parametrize("choice", [{}, {"split": SplitBy.FOLD, "fold": 1}, {"split": SplitBy.TIME}])
def test_no_patient_stands_in_two_splits_of_a_cohort(tmp_path, tiny_hospital, choice):
    build_cohort(tiny_hospital, tmp_path / "run", CohortSettings(**choice))
    patients = {split: set(read_samples(tmp_path / "run", split)["subject_id"]) for split in SPLITS}
    assert all(patients.values())
    assert sum(map(len, patients.values())) == len(set().union(*patients.values()))


def test_the_formulary_knows_no_drug_that_only_others_than_training_patients_got(tiny_cohort):
    formulary = set(pl.read_parquet(tiny_cohort / "formulary.parquet")["drug"])
    assert formulary == set(read_samples(tiny_cohort, "train")["drugs"].explode())


def test_the_test_split_is_refused_to_training_and_open_to_scoring(tiny_cohort):
    with pytest.raises(ContractError, match="the test split is for scoring alone"):
        read_training_prompts(tiny_cohort, "test")
    assert next(iter(read_prompts(tiny_cohort, "test")))
    for split in ("train", "validation"):
        assert next(iter(read_training_prompts(tiny_cohort, split)))


def test_a_training_run_never_opens_the_test_split(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    real: Callable = read_samples
    monkeypatch.setattr("etl.cohort.read_samples", lambda run, split: opened.append(split) or real(run, split))
    config = load_config("smoke", ["ranks=[2]", "checkpoint_steps=[1]", "batch_size=2", "warmup_steps=0"])
    train(config, tiny_cohort, str(random_base), tmp_path / "runs", lambda name: lambda done, total, loss: None)
    assert sorted(set(opened)) == ["train", "validation"]
