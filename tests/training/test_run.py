"""A run's claim on its folder: what it may go on with, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ContractError
from training import base as bases
from training.config import load_config
from training.data import EncodedSplit
from training.manifest import read_manifest
from training.run import Run, claim


@pytest.fixture
def run(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> Run:
    """A run that was begun."""
    begun = Run(
        config=load_config("smoke"),
        rank=2,
        folder=tmp_path / "rank-2",
        base=str(random_base),
        base_folder=random_base,
        base_sha256="0" * 64,
        cohort=tiny_cohort,
        cohort_sha256="1" * 64,
        cohort_settings={},
        tokenizer=bases.load_tokenizer(random_base),
        train=EncodedSplit([], 0),
        validation=EncodedSplit([], 0),
    )
    claim(begun)
    return begun


def with_settings(run: Run, **settings: Any) -> Run:
    return replace(run, config=run.config.model_copy(update=settings))


def test_the_same_run_goes_on(run: Run) -> None:
    claim(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "lora"),
        ("scaling", "rslora"),
        ("alpha", 8.0),
        ("a_seed", 1),
        ("learning_rate", 0.5),
        ("schedule", "linear"),
        ("batch_size", 4),
        ("max_length", 256),
        ("loss_on", "all"),
        ("seed", 1),
        ("dtype", "bfloat16"),
    ],
)
def test_another_setting_in_the_same_folder_is_refused_by_name(run: Run, name: str, value: Any) -> None:
    with pytest.raises(ContractError, match=rf"differs in {name}; choose another --out"):
        claim(with_settings(run, **{name: value}))


@pytest.mark.parametrize("name", ["base_sha256", "cohort_sha256", "rank"])
def test_another_base_cohort_or_rank_is_refused_by_name(run: Run, name: str) -> None:
    with pytest.raises(ContractError, match=f"differs in {name}"):
        claim(replace(run, **{name: 3 if name == "rank" else "2" * 64}))


@pytest.mark.parametrize(
    ("name", "value"), [("micro_batch_size", 1), ("gradient_checkpointing", True), ("ranks", (2, 4))]
)
def test_a_run_goes_on_with_what_changes_nothing_it_learns(run: Run, name: str, value: Any) -> None:
    """Out of memory at step 1,000, a run must be able to go on in smaller pieces."""
    claim(with_settings(run, **{name: value}))


def test_rows_edited_by_hand_are_refused(run: Run, tmp_path: Path) -> None:
    cohort = shutil.copytree(run.cohort, tmp_path / "cohort")
    with (cohort / "samples.parquet").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ContractError, match=r"holds another samples\.parquet than its cohort\.json describes"):
        claim(replace(run, cohort=cohort))


def test_a_manifest_says_what_decides_the_last_bits(trained_runs: Path) -> None:
    manifest = read_manifest(trained_runs / "rank-4" / "step-000004")
    assert manifest.machine.keys() == {"device", "dtype", "attention", "processes", "deterministic"}
    assert manifest.machine["processes"] == 1
    assert manifest.template_date == "26 Jul 2024"
    assert (manifest.scaling_kind, manifest.scaling, manifest.frozen) == ("alpha", 4.0, ["lora_A"])
    assert manifest.base_revision is None
    assert "rxdraft" in manifest.versions


def test_the_best_checkpoint_is_the_last_that_says_so(trained_runs: Path) -> None:
    for rank in (2, 4):
        looks = json.loads((trained_runs / f"rank-{rank}" / "validation.json").read_text("utf-8"))["looks"]
        losses = {look["step"]: look["loss"] for look in looks}
        found = {step: read_manifest(trained_runs / f"rank-{rank}" / f"step-{step:06d}").best for step in (2, 4)}
        assert found == {2: True, 4: losses[4] < losses[2]}
