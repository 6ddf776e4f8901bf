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
    table = rxdraft("evaluate", "--runs", runs, "--split", "test", "--show")
    for part in ("| rank ", "popularity", "previous admission", "not judged", "One admission of split test"):
        assert part in table

    figures = json.loads((runs / "evaluation-test" / "table.json").read_text("utf-8"))
    samples = read_samples(cohort, "test")
    assert [(cell["rank"], cell["step"]) for cell in figures["cells"]] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert figures["admissions"] == samples.height
    for cell in figures["cells"]:
        kept = pl.read_parquet(runs / "evaluation-test" / "predictions" / f"{cell['name']}.parquet")
        assert kept["hadm_id"].to_list() == samples["hadm_id"].to_list()

    body = tmp_path / "admission.json"
    body.write_text(json.dumps({"age": 67, "diagnoses": [{"icd_code": "I50.9", "icd_version": 10}]}), "utf-8")
    draft = json.loads(rxdraft("recommend", "--model", made[-1], "--json", body))
    assert draft["status"] == "draft"
    assert (draft["model"]["rank"], draft["model"]["step"]) == (4, 2)
