"""Rows of real checkpoints of both objectives, calibrated and not: who drafts what, and with which probabilities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError
from evaluation import predict as predict_module
from evaluation.drafts import SERVED
from evaluation.evaluate import Evaluation, evaluate
from evaluation.predict import cell_name
from evaluation.results import Redrawn
from evaluation.rows import BASE, CONSTRAINED, Asked
from evaluation.strategies.compare import compare
from evaluation.strategies.strategy import Strategy
from serving.probabilities.calibrate import Wanted, calibrate
from serving.recommenders.lists import load_recommenders
from training.config import load_config
from training.loop import train
from training.manifest import find_checkpoints, read_manifest

PRODUCTS = Asked(rows=(SERVED, CONSTRAINED), redrawn=Redrawn(200))


def quiet(name: str) -> Any:
    return lambda done, total, note: None


@pytest.fixture(scope="module")
def lists(taught_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint that writes lists, not calibrated."""
    folder = tmp_path_factory.mktemp("lists") / "rank-4"
    shutil.copytree(taught_runs / "rank-4", folder)
    shutil.rmtree(folder / "step-000002")
    return folder


@pytest.fixture(scope="module")
def labels(lists: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of labels on the same base, not calibrated."""
    [checkpoint] = find_checkpoints(lists)
    folder = tmp_path_factory.mktemp("labels")
    few = ["ranks=[2]", "checkpoint_epochs=[]", "checkpoint_steps=[6]", "batch_size=4", "warmup_steps=0"]
    train(load_config("labels", few), tiny_cohort, read_manifest(checkpoint).base, folder, quiet)
    return folder


@pytest.fixture(scope="module")
def calibrated(lists: Path, labels: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, calibrated; lists by four votes."""
    runs = tmp_path_factory.mktemp("calibrated")
    for name, folder in (("lists", lists), ("labels", labels)):
        shutil.copytree(folder, runs / name)
    list(calibrate(runs, tiny_cohort, Wanted(votes=4)))
    return runs


@pytest.fixture(scope="module")
def of_labels(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    on_both = Strategy.model_validate({"name": "brief", "system": "List drugs."})
    asked = Asked(rows=(SERVED, CONSTRAINED, BASE, "note-swap"), strategies=[on_both], redrawn=Redrawn(200))
    return evaluate(labels, None, "test", tmp_path_factory.mktemp("of-labels"), asked)


@pytest.fixture(scope="module")
def by_votes(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(calibrated / "lists", None, "test", tmp_path_factory.mktemp("by-votes"), PRODUCTS)


def names_of(found: Evaluation) -> list[str]:
    return [row["name"] for row in found.about["rows"]]


def figures_of(found: Evaluation, row: str) -> dict[str, float | None]:
    ours = found.results.filter(row=row, convention="ours", rung="drug", rule="set")
    return dict(zip(ours["metric"], ours["value"], strict=True))


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The k of every loading."""
    ks: list[int | None] = []

    def spy(paths: list[Path], base: str | None, k: int | None = None, **more: Any) -> Any:
        ks.append(k)
        return load_recommenders(paths, base, k, **more)

    monkeypatch.setattr(predict_module, "load_recommenders", spy)
    return ks


# --- labels ---------------------------------------------------------------------------------------------


def test_a_checkpoint_of_labels_is_a_row_by_its_own_name_and_always_drafts(of_labels):
    assert of_labels.selected == "labels-rank-2-step-000006"
    assert figures_of(of_labels, of_labels.selected)["output_rate"] == 1
    assert "labels" in (of_labels.folder / "evaluation.json").read_text()


def test_a_checkpoint_of_labels_drafts_as_it_is_served(of_labels, labels):
    [recommender] = load_recommenders(find_checkpoints(labels))
    admissions = [to_admission(sample) for sample in of_labels.samples.iter_rows(named=True)]
    found, alone = of_labels.drafts(of_labels.selected), recommender.recommend(admissions)
    assert found["drugs"].to_list() == [list(draft.answer.drugs) for draft in alone]
    assert np.allclose(found["chances"].to_list(), [draft.chances for draft in alone], atol=1e-6)


def test_what_is_served_of_labels_is_the_checkpoints_own_row_and_nothing_else_is_constrained(of_labels):
    assert CONSTRAINED not in names_of(of_labels)
    own, served = figures_of(of_labels, of_labels.selected), figures_of(of_labels, SERVED)
    assert served == pytest.approx(own, nan_ok=True)


def test_probabilities_give_a_ranking_a_brier_score_and_a_calibration(of_labels):
    figures = figures_of(of_labels, SERVED)
    assert all(figures[name] is not None and 0 <= figures[name] <= 1 for name in ("prauc", "brier", "ece"))
    assert of_labels.about["calibration"][SERVED]["formulary"]["ece"] == pytest.approx(figures["ece"])


def test_probes_of_labels_have_probabilities_too(of_labels):
    assert figures_of(of_labels, "note-swap")["ece"] is not None


def test_nobody_asks_a_checkpoint_of_labels_to_write(of_labels, labels, tiny_cohort):
    assert [name for name in names_of(of_labels) if "zero-shot" in name or "brief" in name] == [
        "zero-shot-base",
        "brief-base",
    ]
    with pytest.raises(ConfigError, match="writes nothing"):
        compare(find_checkpoints(labels)[0], tiny_cohort, "test", 1)


# --- lists ----------------------------------------------------------------------------------------------


def test_an_uncalibrated_list_is_served_constrained_and_without_probabilities(lists, tmp_path):
    found = evaluate(lists, None, "test", tmp_path, PRODUCTS)
    assert names_of(found) == [found.selected, SERVED]
    figures = figures_of(found, SERVED)
    assert figures["output_rate"] == 1
    assert figures["ece"] is figures["prauc"] is figures["brier"] is None
    assert SERVED not in found.about["calibration"]


def test_votes_are_served_with_probabilities_beside_the_likeliest_list_without(by_votes):
    assert names_of(by_votes) == [by_votes.selected, CONSTRAINED, SERVED]
    assert figures_of(by_votes, SERVED)["ece"] is not None
    assert figures_of(by_votes, CONSTRAINED)["ece"] is None
    lists = {name: pl.read_parquet(next((by_votes.folder / "predictions" / name).iterdir())) for name in names_of(
        by_votes
    )[1:]}  # fmt: skip
    assert not lists[SERVED]["drugs"].equals(lists[CONSTRAINED]["drugs"])
    known = len(set(by_votes.samples["drugs"].explode())) > 0 and by_votes.about["formulary"]
    assert set(lists[SERVED]["chances"].list.len()) == {known}
    assert lists[CONSTRAINED]["chances"].null_count() == by_votes.samples.height


def test_another_calibration_drafts_what_is_served_again_and_nothing_else(by_votes, calibrated, tmp_path, drafted):
    out = Path(shutil.copytree(by_votes.folder, tmp_path / "out"))
    evaluate(calibrated / "lists", None, "test", out, PRODUCTS)
    assert drafted == []
    runs = Path(shutil.copytree(calibrated / "lists", tmp_path / "runs"))
    [path] = runs.rglob("manifest.json")
    manifest = json.loads(path.read_text())
    manifest["calibration"]["cut"] = {"rule": "false_positives", "at": 1.0}
    path.write_text(json.dumps(manifest))
    found = evaluate(runs, None, "test", out, PRODUCTS)
    assert drafted == [None]
    assert figures_of(found, SERVED)["drugs"] != figures_of(by_votes, SERVED)["drugs"]
    assert figures_of(found, CONSTRAINED) == pytest.approx(figures_of(by_votes, CONSTRAINED), nan_ok=True)


# --- both -----------------------------------------------------------------------------------------------


def test_both_objectives_stand_in_one_table_labels_first(calibrated, tmp_path, tiny_cohort):
    found = evaluate(calibrated, None, "test", tmp_path, Asked(rows=(SERVED,), redrawn=Redrawn(200)))
    manifests = [read_manifest(path) for path in find_checkpoints(calibrated)]
    assert names_of(found) == ["labels-rank-2-step-000006", "rank-4-step-000004", SERVED]
    f1 = {cell_name(m): m.calibration["fitted"]["after"]["f1"] for m in manifests}
    assert found.selected == max(f1, key=f1.__getitem__)
    assert found.visits.height == 3 * read_samples(tiny_cohort, "test").height
