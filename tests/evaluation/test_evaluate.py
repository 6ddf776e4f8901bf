"""The evaluation over real checkpoints: rows in order, drafts reused only while they fit, figures anybody can redo."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
import pytest

from etl import artefacts, prompts
from etl.build import build_cohort
from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError, ContractError
from etl.settings import CohortSettings
from evaluation import evaluate as evaluate_module
from evaluation import predict as predict_module
from evaluation import rows as rows_module
from evaluation.evaluate import Evaluation, evaluate
from evaluation.metrics import METRICS
from evaluation.results import Redrawn
from evaluation.rows import ROWS, Asked
from evaluation.statistics.bootstrap import FEWEST_PATIENTS
from serving.baselines.fit import NAMES as BASELINES
from serving.baselines.service import load_baseline
from serving.recommenders.lists import load_recommenders
from training.checkpoint import weights_sha256
from training.manifest import find_checkpoints, read_manifest

CELLS = [f"rank-{rank}-step-00000{step}" for rank in (2, 4) for step in (2, 4)]
FEW = Redrawn(draws=200)
ALONE = Asked(rows=(), redrawn=FEW)
"""The checkpoints and nothing beside them."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def whole(tiny_hospital: Path) -> Asked:
    """All that can be asked for."""
    return Asked(oracle=tiny_hospital / "oracle.parquet", redrawn=FEW)


@pytest.fixture(scope="module")
def found(taught_runs: Path, out: Path, whole: Asked) -> Evaluation:
    return evaluate(taught_runs, None, "test", out, whole)


@pytest.fixture
def copied_out(found: Evaluation, out: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(out, tmp_path / "out"))


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that were asked for drafts, by name."""
    asked: list[str] = []

    def spy(checkpoints: list[Path], base: str | None, **more: Any) -> Any:
        asked.extend(predict_module.cell_name(read_manifest(path)) for path in checkpoints)
        return load_recommenders(checkpoints, base, **more)

    monkeypatch.setattr(predict_module, "load_recommenders", spy)
    return asked


def change_weights(checkpoint: Path, factor: float = -5.0) -> None:
    """Make another whole adapter of a checkpoint: B is scaled, the manifest names the new files."""
    from safetensors.torch import load_file, save_file

    path = checkpoint / "adapter" / "adapter_model.safetensors"
    save_file({name: w * (factor if "lora_B" in name else 1) for name, w in load_file(path).items()}, path)
    manifest = checkpoint / "manifest.json"
    digest = {"weights_sha256": weights_sha256(checkpoint / "adapter")}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | digest))


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def figures_of(found: Evaluation, row: str) -> dict[str, float | None]:
    ours = found.results.filter(row=row, convention="ours", rung="drug").unique("metric", keep="first")
    alone = ours.filter(~pl.col("metric").str.starts_with("oracle_share_"))  # the others need another row
    return dict(zip(alone["metric"], alone["value"], strict=True))


# --- rows -----------------------------------------------------------------------------------------------


def test_rows_stand_in_order_checkpoints_by_rank_and_step_first(found):
    rows = found.about["rows"]
    assert [row["name"] for row in rows[:4]] == CELLS
    assert [(row["rank"], row["step"]) for row in rows[:4]] == [(2, 2), (2, 4), (4, 2), (4, 4)]
    kinds = [row["kind"] for row in rows]
    assert sorted(set(kinds), key=kinds.index) == ["checkpoint", "product", "strategy", "probe", "baseline", "oracle"]
    baselines = [row["name"] for row in rows if row["kind"] == "baseline"]
    assert baselines == [name for name in BASELINES if name in ROWS]
    assert found.results["row"].unique(maintain_order=True).to_list() == [row["name"] for row in rows]
    assert found.visits["row"].unique(maintain_order=True).to_list() == [row["name"] for row in rows]


def test_some_answers_are_lists_and_the_checkpoints_differ(found):
    """Else the tests below would prove little."""
    assert any(figures_of(found, cell)["output_rate"] for cell in CELLS)
    assert len({figures_of(found, cell)["f1"] for cell in CELLS}) > 1


def test_every_row_has_its_drafts_beside_it_in_the_samples_order(found, out, tiny_cohort):
    samples = read_samples(tiny_cohort, "test")
    for row in found.about["rows"]:
        part = found.visits.filter(row=row["name"])
        assert part.select("subject_id", "hadm_id").equals(samples.select("subject_id", "hadm_id"))
    for name in (*CELLS, *(row["name"] for row in found.about["rows"] if row["kind"] == "baseline")):
        assert pl.read_parquet(out / "predictions" / f"{name}.parquet")["hadm_id"].equals(samples["hadm_id"])


def test_figures_are_what_anybody_gets_from_the_two_parquet_files(found, out, tiny_cohort):
    truths = {row["hadm_id"]: set(row["drugs"]) for row in read_samples(tiny_cohort, "test").iter_rows(named=True)}
    known = set(pl.read_parquet(tiny_cohort / "formulary.parquet")["drug"])
    for cell in CELLS:
        rows = list(pl.read_parquet(out / "predictions" / f"{cell}.parquet").iter_rows(named=True))
        formed, accuracy, ita, recall, f1, jaccard, lengths, strange, items = 0, [], [], [], [], [], [], 0, 0
        for row in rows:
            p, t = set(row["drugs"]), truths[row["hadm_id"]]
            assert t  # the cohort keeps only admissions with a drug, so no list pair is empty
            if row["outcome"] in ("ok", "ok_with_duplicates", "ok_empty_list"):
                formed += 1
                lengths.append(len(p))
                if p:
                    accuracy.append(len(p & t) / len(p))
            else:
                assert not p
            items += len(p) + row["repeats"]
            strange += len(p - known)
            ita.append(len(p & t) / len(p) if p else 0)
            recall.append(len(p & t) / len(t))
            f1.append(2 * len(p & t) / (len(p) + len(t)))
            jaccard.append(len(p & t) / len(p | t))
        figures = figures_of(found, cell)
        assert len(rows) == len(truths) == found.about["admissions"]
        assert figures["output_rate"] == pytest.approx(formed / len(rows))
        assert figures["accuracy"] == (pytest.approx(fmean(accuracy)) if accuracy else None)
        assert figures["accuracy_all"] == pytest.approx(fmean(ita))
        assert figures["recall"] == pytest.approx(fmean(recall))
        assert figures["f1"] == pytest.approx(fmean(f1))
        assert figures["jaccard"] == pytest.approx(fmean(jaccard))
        assert figures["drugs"] == (pytest.approx(fmean(lengths)) if lengths else None)
        if items:
            assert figures["unknown"] + figures["off_formulary"] == pytest.approx(strange / items)


def test_one_checkpoint_may_be_scored_alone_with_nothing_beside_it(found, taught_runs, tmp_path):
    alone = evaluate(taught_runs / "rank-4" / "step-000002", None, "test", tmp_path, ALONE)
    assert [row["name"] for row in alone.about["rows"]] == ["rank-4-step-000002"]
    own, among = ({**figures_of(made, CELLS[2]), **dict.fromkeys(("changed", "overlap"))} for made in (alone, found))
    assert own == pytest.approx(among, nan_ok=True)  # alone, it is itself the selected one it is held against


def test_a_row_left_out_changes_no_other_rows_figures(found, taught_runs, copied_out):
    fewer = evaluate(taught_runs, None, "test", copied_out, Asked(rows=("popularity",), redrawn=FEW))
    assert {row["name"] for row in fewer.about["rows"]} == {*CELLS, "popularity"}
    for name in (*CELLS, "popularity"):
        assert figures_of(fewer, name) == pytest.approx(figures_of(found, name), nan_ok=True)


def test_a_model_that_knows_nothing_scores_0_and_has_no_accuracy(trained_runs, tmp_path):
    blank = evaluate(trained_runs, None, "validation", tmp_path, Asked(rows=("popularity",), redrawn=FEW))
    silent = [cell for cell in CELLS if not figures_of(blank, cell)["output_rate"]]
    for cell in silent:
        figures = figures_of(blank, cell)
        assert (figures["accuracy"], figures["f1"], figures["drugs"]) == (None, 0, None)
    assert silent, "no checkpoint is silent; this test proves nothing"
    if len(silent) == len(CELLS):
        drugs = figures_of(blank, "popularity")["drugs"]
        assert drugs > 1, "a model without a list is no reason to give baselines none"


def test_progress_counts_every_row_up_to_every_admission(found, taught_runs, copied_out, whole):
    told: list[tuple[str, int, int]] = []
    evaluate(taught_runs, None, "test", copied_out, whole, told=lambda *args: told.append(args))
    ended = [row for row, done, total in told if done == total == found.about["admissions"]]
    expected = [row["name"] for row in found.about["rows"] if row["kind"] in ("checkpoint", "probe", "baseline")]
    assert [row for row in ended if row in expected] == expected


# --- what stands beside the checkpoints -------------------------------------------------------------------


def test_baselines_are_cut_as_they_are_served_unless_told_otherwise(found, tiny_cohort):
    admissions = [to_admission(sample) for sample in found.samples.iter_rows(named=True)]
    for name in BASELINES:
        served = [len(draft.answer.drugs) for draft in load_baseline(name, tiny_cohort).recommend(admissions)]
        assert found.visits.filter(row=name)["p_drug"].to_list() == served, name
    assert found.about["matched_lengths"] is False


def test_baselines_may_have_the_list_lengths_of_the_selected_checkpoint(taught_runs, copied_out):
    found = evaluate(taught_runs, None, "test", copied_out, Asked(rows=BASELINES, matched_lengths=True, redrawn=FEW))
    losses = {name: known["losses"]["validation"] for name, known in found.about["checkpoints"].items()}
    assert found.selected == min(losses, key=losses.__getitem__)
    selected = found.visits.filter(row=found.selected)
    given = selected.filter("well_formed")["p_drug"]
    usual = round(given.mean())
    expected = [p if formed else usual for p, formed in zip(selected["p_drug"], selected["well_formed"], strict=True)]
    for name in BASELINES:
        if name in ROWS:
            assert found.visits.filter(row=name)["p_drug"].to_list() == expected, name


def test_the_oracle_row_beats_every_other_row(found):
    best = figures_of(found, "oracle")["jaccard"]
    others = [row["name"] for row in found.about["rows"] if row["name"] != "oracle"]
    assert all(best > figures_of(found, name)["jaccard"] for name in others)


def test_the_placebo_is_the_selected_checkpoint_with_other_notes(found, out):
    placebo = pl.read_parquet(out / "predictions" / "note-swap" / f"{found.selected}.parquet")
    own = found.drafts(found.selected)
    assert placebo["hadm_id"].equals(own["hadm_id"])
    assert not placebo["text"].equals(own["text"])


def test_a_checkpoints_own_drafts_are_never_taken_for_its_placebos(found, taught_runs, copied_out, out, drafted):
    place = Path("predictions") / "note-swap" / f"{found.selected}.parquet"
    shutil.copy(copied_out / "predictions" / f"{found.selected}.parquet", copied_out / place)
    evaluate(taught_runs, None, "test", copied_out, Asked(rows=("note-swap",), redrawn=FEW))
    assert drafted == [found.selected]
    assert (copied_out / place).read_bytes() == (out / place).read_bytes()


def test_of_equal_validation_losses_the_longer_training_is_selected(found, taught_runs, copied_out, tmp_path):
    runs = Path(shutil.copytree(taught_runs, tmp_path / "runs"))
    for path in runs.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["losses"]["validation"] = 1.0
        path.write_text(json.dumps(manifest))
    assert evaluate(runs, None, "test", copied_out, ALONE).selected == CELLS[1]


def test_rows_that_nobody_knows_are_refused_by_name(taught_runs, tmp_path):
    with pytest.raises(ConfigError, match="--rows has medians, modes, wanted some of served, constrained, random"):
        evaluate(taught_runs, None, "test", tmp_path / "out", Asked(rows=("medians", "popularity", "modes")))
    assert not (tmp_path / "out").exists()


def test_another_hospitals_oracle_is_refused(taught_runs, copied_out, tiny_hospital, tmp_path):
    path = tmp_path / "oracle.parquet"
    pl.read_parquet(tiny_hospital / "oracle.parquet").head(2).write_parquet(path)
    with pytest.raises(ContractError, match=r"knows nothing of \d+ admissions"):
        evaluate(taught_runs, None, "test", copied_out, Asked(rows=(), oracle=path))


@pytest.mark.parametrize("setting", [{"level": "atc4"}, {"within_hours": 24}, {"predict_at": "24h"}])
def test_an_oracle_of_whole_stays_by_name_is_refused_for_another_kind_of_answer(
    taught_runs, tiny_cohort, tmp_path, monkeypatch, setting
):
    [(name, value)] = setting.items()
    content = evaluate_module.read_cohort(tiny_cohort)
    changed = {**content, "settings": {**content["settings"], **setting}}
    monkeypatch.setattr(evaluate_module, "read_cohort", lambda folder: changed)
    with pytest.raises(ConfigError, match=rf"{name} {value}.*leave --oracle out"):
        evaluate(taught_runs, None, "test", tmp_path / "out", Asked(rows=(), oracle=tmp_path / "oracle.parquet"))
    assert not (tmp_path / "out").exists()


# --- reuse ----------------------------------------------------------------------------------------------


def test_a_second_run_asks_nobody_and_leaves_the_same_bytes(found, taught_runs, copied_out, whole, drafted):
    before = files_of(copied_out)
    kept = {path: os.stat(path).st_mtime_ns for path in (copied_out / "predictions").glob("rank-*")}
    evaluate(taught_runs, None, "test", copied_out, whole)
    assert drafted == []
    assert files_of(copied_out) == before
    assert {path: os.stat(path).st_mtime_ns for path in kept} == kept


def test_two_runs_apart_write_the_same_bytes(found, taught_runs, out, tmp_path, whole):
    evaluate(taught_runs, None, "test", tmp_path, whole)
    assert files_of(tmp_path) == files_of(out)


def test_a_missing_draft_is_asked_for_and_the_others_are_kept(taught_runs, copied_out, drafted):
    (copied_out / "predictions" / f"{CELLS[1]}.parquet").unlink()
    evaluate(taught_runs, None, "test", copied_out, ALONE)
    assert drafted == [CELLS[1]]


def test_drafts_of_a_changed_checkpoint_are_not_reused(found, taught_runs, copied_out, drafted, tmp_path):
    runs = Path(shutil.copytree(taught_runs, tmp_path / "runs"))
    change_weights(runs / "rank-2" / "step-000004")
    again = evaluate(runs, None, "test", copied_out, ALONE)
    assert drafted == [CELLS[1]]
    assert not again.drafts(CELLS[1]).equals(found.drafts(CELLS[1]))
    assert again.drafts(CELLS[0]).equals(found.drafts(CELLS[0]))


def test_drafts_of_another_split_are_not_reused(taught_runs, copied_out, drafted, tiny_cohort):
    other = evaluate(taught_runs, None, "validation", copied_out, ALONE)
    assert drafted == CELLS
    assert other.samples.equals(read_samples(tiny_cohort, "validation"))


def test_drafts_of_an_older_prompt_are_not_reused(taught_runs, copied_out, monkeypatch):
    """The service would refuse these checkpoints; kept drafts must not get round that."""
    monkeypatch.setattr(prompts, "VERSION", f"after {prompts.VERSION}")
    with pytest.raises(ContractError, match="prompt version"):
        evaluate(taught_runs, None, "test", copied_out, ALONE)


def test_a_file_that_is_no_draft_is_drafted_again(found, taught_runs, copied_out, drafted):
    found.samples.write_parquet(copied_out / "predictions" / f"{CELLS[0]}.parquet")
    evaluate(taught_runs, None, "test", copied_out, ALONE)
    assert drafted == [CELLS[0]]


def test_a_run_that_is_killed_between_rows_leaves_whole_drafts_and_no_result(
    found, taught_runs, tmp_path, out, whole, drafted, monkeypatch
):
    def killed(*_: Any) -> Callable[..., Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "draft_oracle", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(taught_runs, None, "test", tmp_path, whole)
    left, complete = files_of(tmp_path), files_of(out)
    assert left
    assert all(complete[path] == content for path, content in left.items())
    assert {path.parts[0] for path in left} == {"predictions"}
    drafted.clear()
    evaluate(taught_runs, None, "test", tmp_path, whole)
    assert drafted == []
    assert files_of(tmp_path) == complete


# --- what is written ------------------------------------------------------------------------------------


def test_the_folder_holds_what_was_returned(found, out):
    assert pl.read_parquet(out / "per_visit.parquet").equals(found.visits)
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(found.about, allow_nan=False))
    assert pl.read_csv(out / "results.csv", schema=found.results.schema).equals(
        found.results.with_columns(pl.col("mark").replace("", None))
    )


def test_results_name_the_table_they_come_from(found, out, taught_runs):
    assert found.about["per_visit_sha256"] == artefacts.sha256_file(out / "per_visit.parquet")
    manifests = [read_manifest(path) for path in find_checkpoints(taught_runs)]
    assert [known["weights_sha256"] for known in found.about["checkpoints"].values()] == [
        m.weights_sha256 for m in manifests
    ]
    assert found.results["provenance_id"].is_unique().all()


def test_neither_figures_nor_findings_name_a_patient_a_visit_or_his_words(found, out):
    figures, findings = (out / "results.csv").read_text(), (out / "evaluation.json").read_text()
    for column in ("subject_id", "hadm_id"):
        for number in map(str, found.samples[column].unique()):
            assert number not in figures
            assert number not in findings
    assert "text" not in found.about
    few = found.samples["subject_id"].n_unique() < FEWEST_PATIENTS
    assert few, "the tiny split grew; see that groups below are still of few patients"
    groups = [group for by in found.about["subgroups"].values() for stratum in by.values() for group in stratum]
    assert groups
    assert all(group["hidden"] and group["estimate"] is None for group in groups)
    assert found.results["lo"].null_count() == found.results.height


def test_all_metrics_of_all_rows_are_there(found):
    for row in found.about["rows"]:
        assert {metric.name for metric in METRICS} <= set(figures_of(found, row["name"]))


# --- refusals -------------------------------------------------------------------------------------------


def test_two_checkpoints_of_one_rank_and_step_are_refused_with_both_places(taught_runs, tmp_path):
    """Runs that differ in alpha or seed may lie below one folder; one row cannot stand for both."""
    both = tmp_path / "both"
    for name in ("one", "other"):
        shutil.copytree(taught_runs / "rank-2", both / name / "rank-2")
    with pytest.raises(ContractError, match=r"rank-2-step-000002: .*one/.*, .*other/.*one of each"):
        evaluate(both, None, "validation", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_cohort_is_refused_with_both_digests_before_anything_is_written(
    taught_runs, tiny_hospital, tiny_cohort, tmp_path
):
    build_cohort(tiny_hospital, tmp_path / "other", CohortSettings(seed=7))
    with pytest.raises(ContractError, match="--data") as refusal:
        evaluate(taught_runs, tmp_path / "other", "test", tmp_path / "out")
    assert artefacts.sha256_file(tmp_path / "other" / "cohort.json")[:12] in str(refusal.value)
    assert artefacts.sha256_file(tiny_cohort / "cohort.json")[:12] in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_cohort_that_moved_is_found_with_data(found, taught_runs, tiny_cohort, copied_out, tmp_path):
    moved = Path(shutil.copytree(tiny_cohort, tmp_path / "moved"))
    again = evaluate(taught_runs, moved, "test", copied_out, ALONE)
    assert figures_of(again, CELLS[0]) == pytest.approx(figures_of(found, CELLS[0]), nan_ok=True)


def test_a_split_without_admissions_is_refused(taught_runs, tiny_cohort, tmp_path):
    cohort = Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    samples = pl.read_parquet(cohort / "samples.parquet")
    samples.filter(pl.col("split") != "validation").write_parquet(cohort / "samples.parquet")
    with pytest.raises(ConfigError, match=r"split validation .* has no admission"):
        evaluate(taught_runs, cohort, "validation", tmp_path / "out")


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(ContractError, match="no checkpoint"):
        evaluate(tmp_path, None, "test", tmp_path / "out")
