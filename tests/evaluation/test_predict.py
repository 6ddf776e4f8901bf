"""Drafts of checkpoints: asked for once, in the samples' order, and kept only while they fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.prompts import parse_answer
from evaluation import predict as predict_module
from evaluation.predict import SCHEMA, cell_name, predict
from serving.recommenders.lists import load_recommenders
from training.manifest import Manifest, find_checkpoints, read_manifest

ORIGIN = {"cohort_sha256": "c", "split": "test"}
Predict = Callable[..., dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def checkpoints(taught_runs: Path) -> list[tuple[Path, Manifest]]:
    return [(path, read_manifest(path)) for path in find_checkpoints(taught_runs)][:2]


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "test").head(3)


@pytest.fixture(scope="module")
def asked(checkpoints, samples) -> Predict:
    def ask(folder: Path, origin: dict[str, str] = ORIGIN, told: Any = lambda *_: None) -> dict[str, pl.DataFrame]:
        return predict(checkpoints, samples, origin, folder, None, told)

    return ask


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def drafts(asked: Predict, out: Path) -> dict[str, pl.DataFrame]:
    return asked(out)


@pytest.fixture
def copied(drafts: dict[str, pl.DataFrame], out: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(out, tmp_path / "out"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that had to be loaded, by name."""
    names: list[str] = []

    def spy(paths: list[Path], base: str | None, **more: Any) -> Any:
        names.extend(cell_name(read_manifest(path)) for path in paths)
        return load_recommenders(paths, base, **more)

    monkeypatch.setattr(predict_module, "load_recommenders", spy)
    return names


def test_there_is_a_file_for_each_checkpoint_and_it_holds_what_is_returned(drafts, out, checkpoints):
    assert list(drafts) == [cell_name(manifest) for _, manifest in checkpoints]
    assert {path.stem for path in out.iterdir()} == set(drafts)
    for name, table in drafts.items():
        assert pl.read_parquet(out / f"{name}.parquet").equals(table)
        assert dict(table.schema) == SCHEMA


def test_drafts_stand_in_the_order_of_the_samples(drafts, samples):
    for table in drafts.values():
        assert table.select("subject_id", "hadm_id").equals(samples.select("subject_id", "hadm_id"))


def test_the_models_own_words_are_kept_and_read_again_as_they_were(drafts):
    for table in drafts.values():
        for text, outcome, names in table.select("text", "outcome", "drugs").iter_rows():
            read = parse_answer(text, truncated=outcome == "truncated")
            assert (read.outcome, list(read.drugs)) == (outcome, names)


def test_the_evaluation_drafts_as_the_service_does(drafts, checkpoints, samples):
    admissions = [to_admission(sample) for sample in samples.iter_rows(named=True)]
    for path, manifest in checkpoints:
        [recommender] = load_recommenders([path])
        alone = [recommender.recommend([admission], raw=True)[0].text for admission in admissions]
        assert drafts[cell_name(manifest)]["text"].to_list() == alone


def test_what_fits_is_not_asked_for_again(asked, drafts, copied, loaded):
    before = {path: path.read_bytes() for path in copied.iterdir()}
    told: list[tuple[str, int, int]] = []
    again = asked(copied, told=lambda *args: told.append(args))
    assert loaded == []
    assert all(again[name].equals(table) for name, table in drafts.items())
    assert {path: path.read_bytes() for path in copied.iterdir()} == before
    assert told == [(name, 3, 3) for name in drafts]


def test_a_missing_file_alone_is_asked_for(asked, drafts, copied, loaded):
    first, second = drafts
    (copied / f"{second}.parquet").unlink()
    assert list(asked(copied)) == [first, second]
    assert loaded == [second]


@pytest.mark.parametrize("origin", [{**ORIGIN, "split": "validation"}, {**ORIGIN, "cohort_sha256": "d"}, {}])
def test_drafts_of_another_origin_are_not_reused(asked, drafts, copied, loaded, origin):
    asked(copied, origin)
    assert loaded == list(drafts)


def test_drafts_of_other_weights_are_not_reused(drafts, copied, loaded, checkpoints, samples):
    (path, one), (_, other) = checkpoints
    shutil.copy(copied / f"{cell_name(other)}.parquet", copied / f"{cell_name(one)}.parquet")
    found = predict([(path, one)], samples, ORIGIN, copied, None, lambda *_: None)
    assert loaded == [cell_name(one)]
    assert found[cell_name(one)].equals(drafts[cell_name(one)])


def test_drafts_under_other_prompts_are_not_reused(asked, drafts, copied, monkeypatch):
    monkeypatch.setattr(prompts, "VERSION", f"after {prompts.VERSION}")
    loaded: list[Path] = []
    monkeypatch.setattr(predict_module, "load_recommenders", lambda paths, base, **more: loaded.extend(paths) or [])
    with pytest.raises(KeyError):  # nobody was loaded, so nobody drafts
        asked(copied)
    assert len(loaded) == len(drafts)


def test_a_run_that_is_killed_leaves_whole_files_and_goes_on_where_it_was(asked, drafts, tmp_path, monkeypatch):
    first, second = drafts
    real = predict_module._draft

    def killed(recommender: Any, *rest: Any) -> Iterator[Any]:
        if cell_name(recommender.manifest) == second:
            raise KeyboardInterrupt
        return real(recommender, *rest)

    monkeypatch.setattr(predict_module, "_draft", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{first}.parquet"]
    monkeypatch.setattr(predict_module, "_draft", real)
    found = asked(tmp_path)
    assert all(found[name].equals(table) for name, table in drafts.items())


def test_progress_counts_up_chunk_by_chunk(asked, drafts, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_module, "CHUNK", 2)
    told: list[tuple[str, int, int]] = []
    found = asked(tmp_path, told=lambda *args: told.append(args))
    assert told == [(name, done, 3) for name in drafts for done in (2, 3)]
    assert all(found[name].equals(table) for name, table in drafts.items())
