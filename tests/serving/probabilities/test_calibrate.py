"""`rxdraft calibrate`: fitted on validation alone, written whole, the same bytes again, and nothing done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from etl.cohort import read_samples
from etl.errors import ConfigError, ContractError
from serving.baselines.pooled import Pooled
from serving.probabilities.blend import FILE, mix
from serving.probabilities.calibrate import Wanted, calibrate, read_validation
from serving.probabilities.calibration import Calibration
from serving.probabilities.commands import calibrate as command
from serving.probabilities.cut import Cut, Rule
from serving.recommenders.lists import load_recommenders
from training.checkpoint import weights_sha256
from training.config import load_config
from training.loop import train
from training.manifest import find_checkpoints, read_manifest

ALONE = Wanted(votes=3, blend=False)
WANTED = Wanted(votes=3)


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "runs" / "checkpoint"))


@pytest.fixture(scope="module")
def calibrated(checkpoint: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("calibrated") / "checkpoint"))
    assert [stood for _, _, stood in calibrate(folder, tiny_cohort, WANTED)] == [False]
    return folder


def patch_samples(cohort: Path, folder: Path, keep: pl.Expr) -> Path:
    """Return a copy of a cohort that has lost rows behind its cohort.json's back."""
    copy = Path(shutil.copytree(cohort, folder))
    pl.read_parquet(cohort / "samples.parquet").filter(keep).write_parquet(copy / "samples.parquet")
    return copy


def test_a_manifest_gets_its_calibration_and_nothing_else(checkpoint, calibrated):
    before, after = (json.loads((path / "manifest.json").read_text()) for path in (checkpoint, calibrated))
    found = Calibration.from_json(after["calibration"])
    assert before | {"calibration": after["calibration"]} == after
    assert found.votes.samples == 3
    assert found.fitted.split == "validation"
    assert weights_sha256(calibrated / "adapter") == after["weights_sha256"]
    blend = {"blend"} if found.blend else set()
    assert {path.name for path in calibrated.iterdir()} == {path.name for path in checkpoint.iterdir()} | blend


def test_the_test_split_is_not_read(calibrated, copied, tiny_cohort, tmp_path):
    others = patch_samples(tiny_cohort, tmp_path / "others", pl.col("split") != "test")
    list(calibrate(copied, others, WANTED))
    assert (copied / "manifest.json").read_bytes() == (calibrated / "manifest.json").read_bytes()


def test_without_a_blend_only_the_validation_split_is_read(copied, tiny_cohort, tmp_path):
    alone = patch_samples(tiny_cohort, tmp_path / "alone", pl.col("split") == "validation")
    [(_, found, _)] = calibrate(copied, alone, ALONE)
    [(_, again, stood)] = calibrate(copied, tiny_cohort, ALONE)
    assert (found, stood) == (again, True)
    assert found.blend is found.fitted.alone is None


def test_without_its_validation_split_nothing_is_calibrated(copied, tiny_cohort, tmp_path):
    others = patch_samples(tiny_cohort, tmp_path / "others", pl.col("split") != "validation")
    with pytest.raises(ConfigError, match="0 validation patients, wanted at least 2"):
        list(calibrate(copied, others, WANTED))
    assert read_manifest(copied).calibration is None


def test_a_second_run_with_the_same_settings_asks_no_model(calibrated, tiny_cohort):
    before = (calibrated / "manifest.json").stat()
    [(_, _, stood)] = calibrate(calibrated, tiny_cohort, WANTED, base="no such base")
    after = (calibrated / "manifest.json").stat()
    assert stood
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize("wanted", [Wanted(votes=4), Wanted(3, temperature=0.5), Wanted(3, false_positives=2.0), ALONE])
def test_other_settings_are_not_met(calibrated, wanted):
    assert not wanted.is_met(read_manifest(calibrated))
    assert WANTED.is_met(read_manifest(calibrated))


def test_a_calibration_of_another_version_is_made_again(calibrated, copied, tiny_cohort):
    path = copied / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": {"kind": "older"}}))
    list(calibrate(copied, tiny_cohort, WANTED))
    assert path.read_bytes() == (calibrated / "manifest.json").read_bytes()


def test_a_bound_on_wrong_drugs_is_what_lists_are_cut_by(copied, tiny_cohort):
    [(_, found, _)] = calibrate(copied, tiny_cohort, Wanted(2, false_positives=1.0))
    assert found.cut == Cut(Rule.FALSE_POSITIVES, 1.0)
    assert Calibration.from_json(read_manifest(copied).calibration) == found


def test_another_cohort_is_refused(copied, tiny_cohort, tmp_path):
    other = Path(shutil.copytree(tiny_cohort, tmp_path / "other"))
    content = json.loads((other / "cohort.json").read_text())
    (other / "cohort.json").write_text(json.dumps(content))  # the same, in other bytes
    with pytest.raises(ContractError, match=r"was not trained on .*other.*--data"):
        list(calibrate(copied, other, WANTED))


def test_a_label_model_is_calibrated_by_what_its_head_says(tiny_cohort, random_base, tmp_path):
    settings = ["objective=labels", "ranks=[2]", "checkpoint_steps=[2]", "batch_size=4", "warmup_steps=0"]
    quiet = lambda name: lambda done, total, loss: None  # noqa: E731
    [made] = train(load_config("smoke", settings), tiny_cohort, str(random_base), tmp_path / "runs", quiet)
    [(_, found, _)] = calibrate(made, tiny_cohort, ALONE)
    assert found.votes is None
    assert ALONE.is_met(read_manifest(made))
    [recommender] = load_recommenders([made])
    validation = read_validation(tiny_cohort, {made: read_manifest(made)})
    [drafted] = recommender.recommend(validation.admissions[:1])
    [scores] = recommender.scores(validation.admissions[:1])
    assert drafted.chances == pytest.approx(found.apply(scores))
    assert len(drafted.answer.drugs) == found.cut.length(found.apply(scores))


def test_a_blend_is_what_says_most_of_held_out_patients_and_is_served(calibrated, tiny_cohort):
    found = Calibration.from_json(read_manifest(calibrated).calibration)
    assert found.fitted.after.log_loss <= found.fitted.alone.log_loss
    assert found.blend is not None, "two steps taught this model nothing; the regression must weigh something"
    [recommender] = load_recommenders([calibrated])
    assert recommender.identity.model_weight == found.blend.weight
    validation = read_validation(tiny_cohort, {calibrated: read_manifest(calibrated)})
    [admission] = validation.admissions[:1]
    regression = Pooled.load(calibrated / FILE)
    votes = found.votes.scores(recommender.count_votes([admission], 3, found.votes.temperature), recommender.popularity)
    mixed = mix(votes, regression.scores([admission]), found.blend.weight)
    [drafted] = recommender.recommend([admission])
    assert drafted.chances == pytest.approx(found.apply(mixed)[0])


def test_a_checkpoint_that_lost_its_blend_is_calibrated_again(calibrated, tiny_cohort, tmp_path):
    copy = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    (copy / FILE).unlink()
    [(_, _, stood)] = calibrate(copy, tiny_cohort, WANTED)
    assert not stood
    assert (copy / "manifest.json").read_bytes() == (calibrated / "manifest.json").read_bytes()


def test_a_blend_that_is_not_the_calibrated_one_is_refused(calibrated, tmp_path):
    copy = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    (copy / FILE).write_bytes((copy / FILE).read_bytes() + b" ")
    with pytest.raises(ContractError, match="not what the calibration was made with; run `rxdraft calibrate`"):
        load_recommenders([copy])


def test_a_folder_without_checkpoints_is_refused(tiny_cohort, tmp_path):
    with pytest.raises(ContractError, match="no checkpoint"):
        list(calibrate(tmp_path, tiny_cohort, WANTED))


def test_a_patients_admissions_are_held_out_together(tiny_cohort, checkpoint):
    validation = read_validation(tiny_cohort, {checkpoint: read_manifest(checkpoint)})
    patients = read_samples(tiny_cohort, "validation")["subject_id"]
    assert len(set(zip(patients, validation.outcomes.fold.tolist(), strict=True))) == patients.n_unique()
    assert np.unique(validation.outcomes.fold).tolist() == list(range(min(5, patients.n_unique())))


def test_what_was_ordered_is_counted_in_the_formulary_and_beyond(tiny_cohort, checkpoint):
    validation = read_validation(tiny_cohort, {checkpoint: read_manifest(checkpoint)})
    formulary = pl.read_parquet(tiny_cohort / "formulary.parquet")["drug"].to_list()
    for row, drugs, listed in zip(
        validation.outcomes.ordered,
        validation.outcomes.drugs,
        read_samples(tiny_cohort, "validation")["drugs"].to_list(),
        strict=True,
    ):
        assert {formulary[i] for i in np.flatnonzero(row)} == set(listed) & set(formulary)
        assert drugs == len(set(listed))


def test_a_folder_of_checkpoints_is_calibrated_and_told_in_a_table(taught_runs, tiny_cohort, tmp_path):
    runs = Path(shutil.copytree(taught_runs, tmp_path / "runs"))
    app = typer.Typer()
    app.command()(command)
    asked = ["--model", str(runs), "--data", str(tiny_cohort), "--votes", "2"]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    names = [path.relative_to(runs).as_posix() for path in find_checkpoints(runs)]
    header, *lines = first.stdout.splitlines()
    assert header.split() == ["checkpoint", "weight", "curve", "cut", "log-loss", "Brier", "ECE", "F1"]
    assert [line.split()[0] for line in lines] == names
    again = CliRunner().invoke(app, asked)
    assert again.stdout.splitlines() == [*first.stdout.splitlines(), "calibrated so already; nothing was changed"]
