"""The whole path as commands, from files to a table: on the synthetic hospital and on the open demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from etl.cohort import read_samples


def rxdraft(*arguments: str | Path) -> str:
    """Run one command to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "rxdraft", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ROWS = "popularity,logistic-history,note-swap"
"""Beside the checkpoints; fitting every kind would take longer than all else here."""


@pytest.mark.parametrize("source", ["tiny_hospital", "mimic_demo"])
def test_files_become_a_table_and_a_draft(
    source: str, random_base: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mimic: Path = request.getfixturevalue(source)
    cohort, runs = tmp_path / "cohort", tmp_path / "runs"
    assert "admissions read" in rxdraft("etl", "--mimic", mimic, "--out", cohort)
    settings = ("--set", "checkpoint_steps=[1, 2]", "--set", "batch_size=2", "--set", "max_length=2048")
    made = rxdraft(
        *("train", "--data", cohort, "--out", runs, "--base", random_base, "--config", "smoke"),
        *("--rank", "2", "--rank", "4", *settings),
    ).split()
    assert len(made) == 4
    table = rxdraft("evaluate", "--runs", runs, "--split", "test", "--show", "--rows", ROWS, "--draws", "200")
    rows = ("| rank ", "| popularity ", "| logistic-history ", "| note-swap ")
    for part in (*rows, "not judged", "One admission of split test"):
        assert part in table

    about = json.loads((runs / "evaluation-test" / "evaluation.json").read_text("utf-8"))
    samples, cells = read_samples(cohort, "test"), [row for row in about["rows"] if row["kind"] == "checkpoint"]
    assert [(cell["rank"], cell["step"]) for cell in cells] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert about["admissions"] == samples.height
    for cell in cells:
        kept = pl.read_parquet(runs / "evaluation-test" / "predictions" / f"{cell['name']}.parquet")
        assert kept["hadm_id"].to_list() == samples["hadm_id"].to_list()

    rxdraft("report", "--evaluation", runs / "evaluation-test")
    assert "figures recomputed" in rxdraft("report", "--evaluation", runs / "evaluation-test", "--check")

    body = tmp_path / "admission.json"
    body.write_text(json.dumps({"age": 67, "diagnoses": [{"icd_code": "I50.9", "icd_version": 10}]}), "utf-8")
    draft = json.loads(rxdraft("recommend", "--model", made[-1], "--json", body))
    assert draft["status"] == "draft"
    assert (draft["model"]["rank"], draft["model"]["step"]) == (4, 2)
    baseline = json.loads(rxdraft("recommend", "--model", "baseline:popularity", "--data", cohort, "--json", body))
    assert all(0 < drug["probability"] <= 1 for drug in baseline["drugs"])
