"""Drafts of a whole file: the service's answers, a killed run that goes on, bad rows that lose nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxdraft
from etl.cohort import read_samples
from etl.domain import Admission
from etl.errors import ConfigError
from serving.baselines.service import load_baseline
from serving.batch import job, parts
from serving.batch.job import plan
from serving.batch.parts import Counts
from serving.batch.rows import FACTS, SCHEMA, Unanswered
from serving.recommendation import Drafter, Recommendation
from serving.recommenders.lists import Recommender
from serving.schemas import DraftRequest, make_list

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PART", 4)


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "train").head(11)


@pytest.fixture
def source(samples: pl.DataFrame, tmp_path: Path) -> Path:
    samples.write_parquet(tmp_path / "admissions.parquet")
    return tmp_path / "admissions.parquet"


def quiet(done: int, total: int) -> None:
    pass


def predict(recommender: Drafter, source: Path, out: Path, identifier: str | None, told: Any = quiet) -> Counts:
    return parts.predict(plan(source, out, identifier, {}), recommender, told)


def counts(drafted: int, refused: int = 0, unanswered: int = 0) -> Counts:
    return Counts(drafted, refused, unanswered, 0, 0)


def test_a_files_drafts_are_the_services(recommender: Recommender, samples: pl.DataFrame, source: Path) -> None:
    out = source.with_name("drafts.parquet")
    assert predict(recommender, source, out, "hadm_id") == counts(11)
    drafts = pl.read_parquet(out)
    assert drafts["hadm_id"].to_list() == samples["hadm_id"].to_list()
    assert drafts["row"].to_list() == list(range(11))
    for found, sample in zip(drafts.iter_rows(named=True), samples.iter_rows(named=True), strict=True):
        coded = [{"icd_code": one["icd_code"], "icd_version": one["icd_version"]} for one in sample["diagnoses"]]
        facts = {name: sample[name] for name in FACTS if name != "diagnoses"}
        admission = DraftRequest.model_validate({"diagnoses": coded, **facts}).to_admission(recommender.vocabulary)
        draft = make_list(admission, *recommender.recommend([admission]), recommender)
        assert found["drugs"] == [drug.drug for drug in draft.drugs]
        assert found["outcome"] == draft.answer.outcome
        assert found["warnings"] == [warning.code for warning in draft.warnings]
        assert (found["probabilities"], found["error"]) == (None, None)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    recommender: Recommender, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = source.with_name("whole.parquet"), source.with_name("drafts.parquet")
    predict(recommender, source, whole, "hadm_id")

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(recommender, source, out, "hadm_id", stop)
    assert not out.exists()
    asked: list[int] = []
    real = recommender.recommend
    monkeypatch.setattr(recommender, "recommend", lambda rows: asked.append(len(rows)) or real(rows))
    predict(recommender, source, out, "hadm_id")
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
    predict(recommender, source, out, "hadm_id")
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
    assert predict(recommender, source, out, None) == counts(2, 4)
    drafts = pl.read_parquet(out)
    assert drafts.columns == list(SCHEMA)
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


def test_a_row_that_no_prompt_holds_is_told_and_costs_its_neighbours_nothing(
    recommender: Recommender, tmp_path: Path
) -> None:
    good = {"diagnoses": [{"icd_code": "I50.9", "icd_version": 10}], "previous_drugs": ["heparin"]}
    long = {**good, "previous_drugs": [f"{CANARY} {i} " + "drug " * 30 for i in range(300)]}
    source, out = tmp_path / "admissions.parquet", tmp_path / "drafts.parquet"
    pl.DataFrame([good, long, good, long, long]).write_parquet(source)
    assert predict(recommender, source, out, None) == counts(2, 3)
    drafts = pl.read_parquet(out)
    assert drafts["error"].to_list() == [None, "drugs: too_long", None, "drugs: too_long", "drugs: too_long"]
    assert drafts["drugs"][0].to_list() == drafts["drugs"][2].to_list() != []
    assert CANARY not in str(drafts.to_dicts())


def test_diagnoses_in_words_are_asked_in_words(recommender: Recommender, tmp_path: Path) -> None:
    source, out = tmp_path / "admissions.parquet", tmp_path / "drafts.parquet"
    pl.DataFrame({"diagnoses": [[{"text": "Heart failure"}]]}).write_parquet(source)
    assert predict(recommender, source, out, None) == counts(1)
    source.unlink()
    pl.DataFrame({"diagnoses": [["Heart failure"]]}).write_parquet(source)
    drafted = pl.read_parquet(out)["drugs"].to_list()
    assert predict(recommender, source, out, None) == counts(1)
    assert pl.read_parquet(out)["drugs"].to_list() == drafted


class Unsure:
    """A recommender whose server is silent at first."""

    def __init__(self, recommender: Recommender, silent_at: int) -> None:
        self.vocabulary, self.identity, self._real = recommender.vocabulary, recommender.identity, recommender
        self.calls, self.silent_at = 0, silent_at

    def attempt(self, admissions: Sequence[Admission]) -> list[Recommendation | Unanswered]:
        found: list[Recommendation | Unanswered] = [*self._real.recommend(admissions)]
        self.calls += 1
        return [Unanswered("timeout"), *found[1:]] if self.calls == self.silent_at else found


def test_rows_without_an_answer_are_told_and_the_same_command_asks_only_their_part_again(
    recommender: Recommender, source: Path
) -> None:
    whole, out = source.with_name("whole.parquet"), source.with_name("drafts.parquet")
    predict(recommender, source, whole, "hadm_id")
    unsure: Any = Unsure(recommender, silent_at=2)
    assert predict(unsure, source, out, "hadm_id") == counts(10, unanswered=1)
    assert pl.read_parquet(out)["error"].to_list() == [None] * 4 + ["no_answer: timeout"] + [None] * 6
    assert predict(unsure, source, out, "hadm_id") == counts(11)
    assert unsure.calls == 3 + 1
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name(f".{out.name}.parts").exists()


def test_a_file_that_is_whole_is_not_drafted_again(recommender: Recommender, source: Path) -> None:
    out, told = source.with_name("drafts.parquet"), list[tuple[int, int]]()
    unsure: Any = Unsure(recommender, silent_at=0)
    predict(unsure, source, out, "hadm_id")
    assert predict(unsure, source, out, "hadm_id", lambda *done: told.append(done)) == counts(11)
    assert (unsure.calls, told) == (3, [(11, 11)])
    predict(unsure, source, out, None)
    assert unsure.calls == 6


@given(st.sets(st.integers(0, 80)))
def test_stretches_hold_every_number_once_in_order_and_none_is_long_or_has_a_gap(numbers: set[int]) -> None:
    stretches = list(job._stretches(sorted(numbers)))
    assert [number for stretch in stretches for number in stretch] == sorted(numbers)
    for stretch in stretches:
        assert stretch == list(range(stretch[0], stretch[-1] + 1))
        assert 1 <= len(stretch) <= job._PARTS_READ


def test_all_probabilities_are_the_formularys_in_its_order(tiny_cohort: Path, source: Path) -> None:
    out, popularity = source.with_name("drafts.parquet"), load_baseline("logistic", tiny_cohort)
    parts.predict(plan(source, out, None, {}, chances=True), popularity, quiet)
    formulary = json.loads(pl.read_parquet_metadata(out)["rxdraft"])["formulary"]
    assert formulary == list(popularity.vocabulary.formulary)
    for draft in pl.read_parquet(out).iter_rows(named=True):
        chances = dict(zip(formulary, draft["chances"], strict=True))
        assert [chances[drug] for drug in draft["drugs"]] == pytest.approx(draft["probabilities"])


def test_who_knows_no_probabilities_is_not_asked_for_all_of_them(recommender: Recommender, source: Path) -> None:
    out = source.with_name("drafts.parquet")
    with pytest.raises(ConfigError, match="knows no probabilities; leave --all-probabilities out"):
        parts.predict(plan(source, out, None, {}, chances=True), recommender, quiet)
    assert not out.exists()


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
        predict(recommender, source, tmp_path / "drafts.parquet", identifier)
    assert "\n" not in str(error.value)


def test_an_empty_file_has_no_draft(recommender: Recommender, samples: pl.DataFrame, source: Path) -> None:
    samples.clear().write_parquet(source)
    out = source.with_name("drafts.parquet")
    assert predict(recommender, source, out, "hadm_id") == counts(0)
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
