"""An evaluation as `rxdraft evaluate` leaves it, of made-up drafts for real samples, and the runs it names."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import artefacts
from etl.cohort import read_cohort, read_samples
from etl.drug_vocabulary import read_drug_vocabulary
from evaluation.drafts import Drafted, Kind, Row, as_drafts
from evaluation.evaluate import FORMAT, finish
from evaluation.interactions import read_interactions
from evaluation.ladder import Projection
from evaluation.results import Redrawn
from evaluation.visits import Truth
from training.manifest import FORMAT as MANIFEST_FORMAT
from training.manifest import Manifest

CELLS = [(2, 10), (2, 20), (4, 10), (4, 20)]
SELECTED = "rank-4-step-000020"


@pytest.fixture(scope="session")
def cohort(tiny_hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny hospital's cohort, declared open data."""
    from etl.build import build_cohort
    from etl.settings import CohortSettings

    folder = tmp_path_factory.mktemp("cohort") / "run"
    build_cohort(tiny_hospital, folder, CohortSettings(open_data=True))
    return folder


@pytest.fixture(scope="session")
def runs(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with logs and manifests, as training leaves them; no weights."""
    folder = tmp_path_factory.mktemp("runs")
    for rank in (2, 4):
        run = folder / f"rank-{rank}"
        run.mkdir()
        artefacts.write_json(run / "run.json", {"cohort": str(cohort), "rank": rank})
        steps = [{"step": step, "loss": 2 / (step + rank), "response_tokens": 50} for step in range(1, 21)]
        (run / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        for step in (10, 20):
            _write_manifest(run / f"step-{step:06d}", rank, step)
    return folder


def _write_manifest(folder: Path, rank: int, step: int) -> None:
    folder.mkdir()
    known: dict[str, Any] = dict.fromkeys(Manifest.__dataclass_fields__, "x")
    known |= {
        "format": MANIFEST_FORMAT,
        "base": "/home/somebody/llama",
        "method": "fa-lora",
        "rank": rank,
        "step": step,
    }
    known |= {"targets": ["q_proj"], "frozen": ["lora_A"], "losses": {"validation": 1 / step}, "cohort_settings": {}}
    known |= {"config": {"learning_rate": 0.01, "seed": 7}, "versions": {"torch": "9.9"}, "samples": 12, "alpha": 16.0}
    artefacts.write_json(folder / "manifest.json", asdict(Manifest(**known)))


def evaluated(cohort: Path, runs: Path, out: Path, names: tuple[str, ...] = ("popularity",), visits: int = 0) -> Path:
    """Write an evaluation of drafts that get better by step; a twentieth of the answers is no list."""
    samples = read_samples(cohort, "train").head(visits or 1000)
    formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    vocabulary = read_drug_vocabulary(None)
    interactions = read_interactions(vocabulary)
    truth = Truth(samples, formulary, Projection(vocabulary), interactions)
    rows = [Row(f"rank-{rank}-step-{step:06d}", Kind.CHECKPOINT, rank, step) for rank, step in CELLS]
    counted = [truth.count(Drafted(row, _drafts(samples, formulary, row))) for row in rows]
    for name in names:
        drafts = as_drafts(samples, [formulary[:8]] * samples.height)
        scores = np.tile(np.linspace(0.9, 0.1, len(formulary)).round(2), (samples.height, 1))
        rows.append(Row(name, Kind.BASELINE))
        counted.append(truth.count(Drafted(rows[-1], drafts, scores, probable=True)))
    about = {
        "format": FORMAT,
        "split": "test",
        "cohort_sha256": artefacts.sha256_file(cohort / "cohort.json"),
        "settings": read_cohort(cohort)["settings"],
        "admissions": samples.height,
        "patients": samples["subject_id"].n_unique(),
        "formulary": len(formulary),
        "interactions_sha256": interactions.digest,
        "selected": SELECTED,
        "matched_lengths": False,
        "rows": [{**asdict(row), "drugs_ever_drafted": 9} for row in rows],
        "checkpoints": {row.name: _described(runs, row) for row in rows if row.rank},
        "redrawn": {"draws": 200, "seed": 0},
    }
    out.mkdir(parents=True)
    return finish(out, about, pl.concat(counted), samples, Redrawn(200, 0)).folder


def _drafts(samples: pl.DataFrame, formulary: list[str], row: Row) -> pl.DataFrame:
    rng = np.random.default_rng(row.step or 0)
    share = 0.3 + (row.step or 0) / 50
    lists = [[drug for drug in drugs if rng.random() < share] + formulary[-2:] for drugs in samples["drugs"]]
    drafts = as_drafts(samples, [list(dict.fromkeys(drugs)) for drugs in lists])
    failed = pl.int_range(pl.len()) % 20 == (row.rank or 0)
    outcome = pl.when(failed).then(pl.lit("truncated")).otherwise("outcome").alias("outcome")
    none = pl.lit([], pl.List(pl.String))
    return drafts.with_columns(outcome, pl.when(failed).then(none).otherwise("drugs").alias("drugs"))


def _described(runs: Path, row: Row) -> dict[str, Any]:
    path = runs / f"rank-{row.rank}" / f"step-{row.step:06d}"
    losses = {"train": 0.5, "validation": 1 / (row.step or 1)}
    about = {"objective": "list", "calibrated": False}
    return {
        **about,
        "path": str(path),
        "scaling": 1.0,
        "losses": losses,
        "weights_sha256": "a" * 64,
        "base_sha256": "b" * 64,
    }


@pytest.fixture(scope="session")
def evaluation_once(cohort: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(cohort, runs, tmp_path_factory.mktemp("evaluation") / "evaluation-test")


@pytest.fixture
def evaluation(evaluation_once: Path, tmp_path: Path) -> Path:
    """An evaluation of one's own, to be judged or spoilt."""
    return Path(shutil.copytree(evaluation_once, tmp_path / "evaluation-test"))


@pytest.fixture
def report(evaluation: Path) -> Path:
    from evaluation.report.write import write_report

    write_report(evaluation, evaluation / "report")
    return evaluation / "report"
