"""The sweep: cells that are means of their seeds, intervals that hold, names that are clear, a command that goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from evaluation.evaluate import evaluate
from evaluation.predict import cell_name
from evaluation.statistics.bootstrap import draw
from evaluation.statistics.comparisons import effects
from evaluation.sweep.cells import Cell
from evaluation.sweep.commands import sweep
from evaluation.sweep.pooling import Pooled, half_width, pool, spread
from evaluation.sweep.table import confounded
from training import loop
from training.manifest import Manifest, find_checkpoints, read_manifest

app = typer.Typer()
app.command()(sweep)

SMALL = ["--config", "smoke", "--set", "batch_size=4", "--set", "warmup_steps=0", "--draws", "200"]
ASKED = [*SMALL, "--ranks", "2,4", "--steps", "2,4", "--seeds", "0,1"]


@pytest.fixture(scope="module")
def given_(tiny_cohort: Path, taught_runs: Path) -> list[str]:
    """The options that say what is trained on: a base that was taught, so that some answers are lists."""
    base = read_manifest(find_checkpoints(taught_runs)[0]).base
    return ["--data", str(tiny_cohort), "--base", base]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep") / "out"


@pytest.fixture(scope="module")
def done(given_: list[str], out: Path) -> Result:
    return CliRunner().invoke(app, [*given_, *ASKED, "--out", str(out)])


@pytest.fixture(scope="module")
def table(done: Result, out: Path) -> pl.DataFrame:
    assert done.exit_code == 0, done.output
    return pl.read_csv(out / "evaluation-validation" / "sweep.csv", schema_overrides={"seed": pl.String})


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- how sure a mean over seeds is -----------------------------------------------------------------------


def test_the_interval_holds_the_truth_as_often_as_it_says_over_patients_and_seeds() -> None:
    """A crossed world: score = 0.5 + seed + patient + noise; of patients alone the interval would hold far less."""
    rng, held, alone, worlds, patients, seeds = np.random.default_rng(0), 0, 0, 400, 60, 3
    for _ in range(worlds):
        score = 0.5 + rng.normal(0, 0.05, (1, seeds)) + rng.normal(0, 0.1, (patients, 1))
        score = score + rng.normal(0, 0.1, (patients, seeds))
        drawn = draw(np.arange(patients), score, draws=200, seed=0)
        found = pool(drawn, np.eye(seeds), None)
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= 0.5 <= found.hi
        mean = draw(np.arange(patients), score.mean(axis=1), draws=200, seed=0).intervals()
        alone += bool(mean.lo[0] <= 0.5 <= mean.hi[0])
    assert held / worlds > 0.93
    assert alone / worlds < 0.85


@given(se=st.floats(0, 1), sd=st.floats(0, 1), patients=st.integers(20, 500), seeds=st.integers(2, 9))
def test_seeds_that_differ_never_make_a_mean_surer(se: float, sd: float, patients: int, seeds: int) -> None:
    alike = half_width(se, patients, patients, 0.0, seeds)
    assert half_width(se, patients, patients, sd, seeds) >= alike * (1 - 1e-9)
    assert alike >= 1.96 * se * (1 - 1e-3)


def test_a_share_stays_between_0_and_1_and_few_patients_have_no_interval() -> None:
    score = np.array([[1.0, 1.0]] * 29 + [[0.0, 0.9]])
    found = pool(draw(np.arange(30), score, draws=200, seed=0), np.eye(2), (0.0, 1.0))
    assert found.hi == 1.0
    few = pool(draw(np.arange(5), score[:5], draws=200, seed=0), np.eye(2), (0.0, 1.0))
    assert (few.lo, few.hi, few.sd) == (None, None, 0.0)


def test_a_seed_without_a_loss_leaves_the_cell_without_one() -> None:
    assert spread([1.0, None]).value is None
    assert (spread([1.0, 3.0]).value, spread([1.0, 3.0]).sd) == (2.0, stdev([1.0, 3.0]))
    assert spread([1.0]).sd is None


def test_an_effect_of_rank_is_a_difference_of_means_however_many_seeds_there_are() -> None:
    weights = effects([2, 2, 2, 2, 4, 4, 4, 4], [1, 1, 2, 2, 1, 1, 2, 2])["rank 4 - rank 2"]
    assert weights.tolist() == [-0.25] * 4 + [0.25] * 4


# --- names ----------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(taught_runs: Path) -> Manifest:
    return read_manifest(find_checkpoints(taught_runs)[0])


def seeded(manifest: Manifest, seed: int, a_seed: int, method: str = "fa-lora") -> str:
    return cell_name(replace(manifest, a_seed=a_seed, method=method, config={**manifest.config, "seed": seed}))


def test_a_row_of_seed_0_is_named_by_rank_and_step_alone(manifest: Manifest) -> None:
    assert seeded(manifest, 0, 0) == "rank-2-step-000002"


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from(["fa-lora", "lora", "lora-fa"]))))
def test_seeds_and_methods_have_rows_of_different_names(taught_runs: Path, runs: list[tuple[int, int, str]]) -> None:
    manifest = read_manifest(find_checkpoints(taught_runs)[0])
    assert len({seeded(manifest, *run) for run in runs}) == len(set(runs))


# --- the command ----------------------------------------------------------------------------------------


def test_a_cell_is_the_mean_of_its_seeds(table: pl.DataFrame) -> None:
    assert table.height == 2 * 2 * 3
    for (_, _), cell in table.group_by("rank", "step"):
        pooled, seeds = cell.filter(seed="all").row(0, named=True), cell.filter(pl.col("seed") != "all")
        assert seeds["seed"].to_list() == ["0", "1"]
        for name in ("jaccard", "f1", "output_rate", "validation_loss"):
            assert pooled[name] == pytest.approx(fmean(seeds[name]))
            assert pooled[f"{name}_sd"] == pytest.approx(stdev(seeds[name]))
    assert table["jaccard"].n_unique() > 1


def test_the_table_has_the_base_every_seed_and_the_facts_about_step_size(done: Result, out: Path) -> None:
    text = (out / "evaluation-validation" / "sweep.md").read_text("utf-8")
    assert text in done.output
    assert re.search(r"^\| base ", text, re.MULTILINE)
    assert re.search(r"^\| fa-lora +\| 4 +\| 2( \*)? +\| 4 +\| 64 +\| 2 ", text, re.MULTILINE)
    assert len(re.findall(r"^\| fa-lora", text, re.MULTILINE)) == 4 + 8
    assert "s²r differs between ranks" not in text  # AdamW sets the size of a step itself
    assert "rank 4 less rank 2" in text


def test_ranks_whose_steps_differ_in_size_are_warned_of() -> None:
    nothing = Pooled(None, None, None)
    cells = [Cell("fa-lora", rank, 2, 16 / rank, {}, True, nothing, {}) for rank in (16, 32)]
    assert "a difference between them may be one of step size" in confounded(cells)
    assert confounded([replace(cell, scaling=16 / cell.rank**0.5) for cell in cells]) == ""
    assert confounded([replace(cell, rank_sets_step=False) for cell in cells]) == ""


def test_the_cell_to_go_on_with_has_the_lowest_mean_validation_loss(table: pl.DataFrame, out: Path) -> None:
    best = table.filter(seed="all").sort("validation_loss").row(0, named=True)
    text = (out / "evaluation-validation" / "sweep.md").read_text("utf-8")
    assert f"* fa-lora, rank {best['rank']}, step {best['step']}: the lowest mean validation loss" in text


def test_the_plot_is_an_svg_with_a_line_a_rank_in_two_panels(table: pl.DataFrame, out: Path) -> None:
    drawn = ElementTree.fromstring((out / "evaluation-validation" / "sweep.svg").read_text("utf-8"))  # noqa: S314
    text = " ".join(filter(None, (element.text for element in drawn.iter())))
    assert "Jaccard, validation" in text
    assert "validation loss" in text
    assert (
        len([circle for circle in drawn.iter() if circle.tag.endswith("circle")]) == table.filter(seed="all").height * 2
    )


def test_a_second_run_trains_nothing_and_changes_no_byte(
    given_: list[str], done: Result, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("it was trained again")

    before = files_of(out)
    monkeypatch.setattr(loop, "train", never)
    again = CliRunner().invoke(app, [*given_, *ASKED, "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert files_of(out) == before


def test_a_plain_evaluation_of_a_sweep_has_a_row_for_every_seed(done: Result, out: Path, tmp_path: Path) -> None:
    from evaluation.evaluate import Asked
    from evaluation.results import Redrawn
    from evaluation.table import main_table

    found = evaluate(out, None, "validation", tmp_path, Asked(rows=(), redrawn=Redrawn(200)))
    assert len(found.about["rows"]) == 8
    assert "| 4, seed 1 " in main_table(found)


def test_status_lists_every_trial(done: Result, out: Path) -> None:
    told = CliRunner().invoke(app, ["--out", str(out), "--status"]).output.splitlines()
    assert told[0] == "fa-lora-seed-0/rank-2  whole     step      4, 2 of 2 checkpoints"
    assert told[-1] == "4 of 4 trials are whole"


def test_a_dry_run_prints_a_command_a_trial_and_writes_nothing(given_: list[str], tmp_path: Path) -> None:
    told = CliRunner().invoke(app, [*given_, *ASKED, "--out", str(tmp_path / "out"), "--dry-run"])
    assert told.output.count("rxdraft train --data") == 4
    assert not (tmp_path / "out").exists()


def test_a_trial_that_fails_is_named_and_the_table_is_made_of_the_others(given_: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "fa-lora-seed-0" / "rank-4"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text('{"config": {}, "rank": 4}')
    alone = [*SMALL, "--ranks", "2,4", "--steps", "2", "--seeds", "0"]
    told = CliRunner().invoke(app, [*given_, *alone, "--out", str(tmp_path)])
    assert "1 of 2 trials failed: fa-lora-seed-0/rank-4: what stands at" in str(told.exception)
    assert "Failed and left out: fa-lora-seed-0/rank-4" in (tmp_path / "evaluation-validation/sweep.md").read_text()


def test_ctrl_c_stops_with_a_line_that_says_how_to_go_on(given_: list[str], tmp_path: Path) -> None:
    command = "import typer; from evaluation.sweep.commands import sweep; typer.run(sweep)"
    asked = [*SMALL, "--ranks", "2", "--steps", "3,9000", "--seeds", "0", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", command, *given_, *asked], stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 120
    while not list(tmp_path.rglob("step-000003")) and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "rxdraft: stopped; 0 of 1 trials are whole, the same command goes on"
    assert not list(tmp_path.rglob("*.unfinished"))
