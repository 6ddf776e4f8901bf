"""Drafts of a whole file: the service's answers, a killed run that goes on, bad rows that lose nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rxdraft
from etl.cohort import read_samples
from etl.errors import ConfigError
from serving import batch
from serving.batch import predict
from serving.recommender import Recommender
from serving.schemas import DraftRequest, make_draft

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PART", 4)


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "train").head(11)


@pytest.fixture
def source(samples: pl.DataFrame, tmp_path: Path) -> Path:
    samples.write_parquet(tmp_path / "admissions.parquet")
    return tmp_path / "admissions.parquet"


def quiet(done: int, total: int) -> None:
    pass


def test_a_files_drafts_are_the_services(recommender: Recommender, samples: pl.DataFrame, source: Path) -> None:
    out = source.with_name("drafts.parquet")
    assert predict(recommender, source, out, "hadm_id", quiet) == (11, 0)
    drafts = pl.read_parquet(out)
    assert drafts["hadm_id"].to_list() == samples["hadm_id"].to_list()
    assert drafts["row"].to_list() == list(range(11))
    for found, sample in zip(drafts.iter_rows(named=True), samples.iter_rows(named=True), strict=True):
        coded = [{"icd_code": one["icd_code"], "icd_version": one["icd_version"]} for one in sample["diagnoses"]]
        facts = {name: sample[name] for name in DraftRequest.model_fields if name != "diagnoses"}
        admission = DraftRequest.model_validate({"diagnoses": coded, **facts}).to_admission(recommender.vocabulary)
        draft = make_draft("", admission, *recommender.recommend([admission]), recommender)
        assert found["drugs"] == [drug.drug for drug in draft.drugs]
        assert found["outcome"] == draft.answer.outcome
        assert found["warnings"] == [warning.code for warning in draft.warnings]
        assert (found["probabilities"], found["error"]) == (None, None)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    recommender: Recommender, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = source.with_name("whole.parquet"), source.with_name("drafts.parquet")
    predict(recommender, source, whole, "hadm_id", quiet)

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(recommender, source, out, "hadm_id", stop)
    assert not out.exists()
    asked: list[int] = []
    real = recommender.recommend
    monkeypatch.setattr(recommender, "recommend", lambda rows: asked.append(len(rows)) or real(rows))
    predict(recommender, source, out, "hadm_id", quiet)
    assert asked == [3]
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "admissions.parquet",
        "drafts.parquet",
        "whole.parquet",
    ]


def test_parts_of_another_file_are_not_taken_for_this_ones(
    recommender: Recommender, samples: pl.DataFrame, source: Path
) -> None:
    out = source.with_name("drafts.parquet")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(recommender, source, out, "hadm_id", stop)
    samples.reverse().write_parquet(source)
    predict(recommender, source, out, "hadm_id", quiet)
    assert pl.read_parquet(out)["hadm_id"].to_list() == samples["hadm_id"].to_list()[::-1]


def test_a_row_that_fits_no_request_is_told_by_place_and_kind_and_loses_nothing(
    recommender: Recommender, tmp_path: Path
) -> None:
    good = {"diagnoses": [{"icd_code": "I50.9", "icd_version": 10}], "sex": "F", "age": 70}
    rows = [
        good,
        {**good, "sex": CANARY},
        {**good, "diagnoses": []},
        {**good, "diagnoses": None},
        {**good, "age": -1},
        good,
    ]
    source, out = tmp_path / "admissions.parquet", tmp_path / "drafts.parquet"
    pl.DataFrame(rows).write_parquet(source)
    assert predict(recommender, source, out, None, quiet) == (2, 4)
    drafts = pl.read_parquet(out)
    assert drafts.columns == list(batch.SCHEMA)
    assert drafts["error"].to_list() == [
        None,
        "sex: literal_error",
        "diagnoses: too_short",
        "diagnoses: list_type",
        "age: greater_than_equal",
        None,
    ]
    assert drafts["drugs"][0].to_list() == drafts["drugs"][5].to_list() != []
    assert CANARY not in str(drafts.to_dicts())


def test_diagnoses_in_words_are_asked_in_words(recommender: Recommender, tmp_path: Path) -> None:
    source, out = tmp_path / "admissions.parquet", tmp_path / "drafts.parquet"
    pl.DataFrame({"diagnoses": [[{"text": "Heart failure"}]]}).write_parquet(source)
    assert predict(recommender, source, out, None, quiet) == (1, 0)
    source.unlink()
    pl.DataFrame({"diagnoses": [["Heart failure"]]}).write_parquet(source)
    drafted = pl.read_parquet(out)["drugs"].to_list()
    assert predict(recommender, source, out, None, quiet) == (1, 0)
    assert pl.read_parquet(out)["drugs"].to_list() == drafted


@pytest.mark.parametrize(
    ("columns", "identifier", "said"),
    [
        ({"age": [70]}, None, "has neither a column diagnoses nor earlier_diagnoses"),
        ({"diagnoses": [["a"]]}, "hadm_id", "has no column hadm_id; --id names one of its columns"),
        (None, None, "is no Parquet file of admissions"),
    ],
)
def test_a_file_that_holds_no_admissions_is_one_line(
    recommender: Recommender, tmp_path: Path, columns: Any, identifier: str | None, said: str
) -> None:
    source = tmp_path / "admissions.parquet"
    source.write_text("no") if columns is None else pl.DataFrame(columns).write_parquet(source)
    with pytest.raises(ConfigError, match=said) as error:
        predict(recommender, source, tmp_path / "drafts.parquet", identifier, quiet)
    assert "\n" not in str(error.value)


def test_an_empty_file_has_no_draft(recommender: Recommender, samples: pl.DataFrame, source: Path) -> None:
    samples.clear().write_parquet(source)
    out = source.with_name("drafts.parquet")
    assert predict(recommender, source, out, "hadm_id", quiet) == (0, 0)
    assert pl.read_parquet(out).is_empty()


def test_the_command_drafts_as_a_baseline_with_probabilities_and_says_what_was_refused(
    tiny_cohort: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = pl.read_parquet(source)
    samples.with_columns(age=pl.when(pl.int_range(pl.len()) == 2).then(-5).otherwise("age")).write_parquet(source)
    out = source.with_name("drafts.parquet")
    options = ["--model", "baseline:popularity", "--data", tiny_cohort, "--admissions", source, "--out", out]
    monkeypatch.setattr(sys, "argv", ["rxdraft", "predict", *map(str, options), "--id", "hadm_id"])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out == f"{out}: drafted 10, refused 1: the column error says why\n"
    drafts = pl.read_parquet(out).filter(pl.col("error").is_null())
    assert all(0 <= p <= 1 for ps in drafts["probabilities"] for p in ps)
    origin = json.loads(pl.read_parquet_metadata(out)["rxdraft"])
    assert origin["model"]["name"] == "baseline:popularity"
