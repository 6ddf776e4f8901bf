"""Drafts by strategy over a real checkpoint: the served prompt's are the service's, the rest are kept and honest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.cohort import read_samples, to_admission
from etl.prompts import parse_answer
from evaluation import predict
from evaluation.strategies import drafts as strategy_drafts
from evaluation.strategies.drafts import SCHEMA, Asked, draft, load_asked, predict_strategies
from evaluation.strategies.examples import Examples
from evaluation.strategies.strategy import Strategy, encode_question
from serving.recommenders.lists import load_recommenders
from training.manifest import find_checkpoints

QUIET = lambda row, done, total: None  # noqa: E731


def strategy(name: str, **settings: Any) -> Strategy:
    return Strategy.model_validate({"name": name, **settings})


PLAIN = strategy("zero-shot")
VOTED = strategy("voted", samples=5, temperature=0.6, on=["tuned"])
SHOWN = strategy("shown", shots=1, on=["base"])


@pytest.fixture(scope="module")
def checkpoint(taught_runs: Path) -> Path:
    return find_checkpoints(taught_runs)[-1]


@pytest.fixture(scope="module")
def asked(checkpoint: Path) -> dict[str, Asked]:
    return load_asked(checkpoint)


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "test").head(8)


@pytest.fixture(scope="module")
def training(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "train")


@pytest.fixture(scope="module")
def voted(asked: dict[str, Asked], samples: pl.DataFrame) -> pl.DataFrame:
    return draft(asked["tuned"], VOTED, samples, None)


def test_the_served_prompts_drafts_are_those_of_the_service(asked, checkpoint, samples):
    [recommender] = load_recommenders([checkpoint])
    served = recommender.recommend([to_admission(sample) for sample in samples.iter_rows(named=True)], raw=True)
    drafts = draft(asked["tuned"], PLAIN, samples, None)
    assert drafts["text"].to_list() == [drafted.text for drafted in served]
    assert drafts["drugs"].to_list() == [list(drafted.answer.drugs) for drafted in served]
    assert drafts["dropped_diagnoses"].to_list() == [drafted.dropped_diagnoses for drafted in served]
    assert drafts["hadm_id"].to_list() == samples["hadm_id"].to_list()
    assert drafts.schema == pl.Schema(SCHEMA)
    assert drafts["votes"].null_count() == drafts.height


def test_the_base_alone_answers_otherwise_than_the_checkpoint(asked, samples):
    base, tuned = (draft(asked[side], PLAIN, samples, None)["text"].to_list() for side in ("base", "tuned"))
    assert base != tuned


def test_votes_stand_beside_the_drugs_they_are_for_and_above_a_half(voted):
    assert any(voted["drugs"].list.len() > 0)
    for row in voted.iter_rows(named=True):
        assert len(row["votes"]) == len(row["drugs"])
        assert all(vote > 0.5 for vote in row["votes"])
        assert row["candidates"][: len(row["drugs"])] == row["drugs"]
        assert row["candidate_votes"][: len(row["votes"])] == row["votes"]
        assert len(row["texts"]) == VOTED.samples
        assert row["text"] == row["texts"][0]


def test_votes_are_those_of_the_engines_own_samples(asked, samples, voted):
    tuned = asked["tuned"]
    room = tuned.manifest.max_length - tuned.manifest.max_answer_tokens
    ids = [encode_question(VOTED, tuned.engine.tokenizer, s, [], room).ids for s in samples.iter_rows(named=True)]
    how = {"samples": VOTED.samples, "temperature": VOTED.temperature, "seed": VOTED.seed}
    drawn = tuned.engine.sample(ids, tuned.adapter, tuned.manifest.max_answer_tokens, **how)
    for row, answers in zip(voted.iter_rows(named=True), drawn, strict=True):
        assert row["texts"] == [answer.text for answer in answers]
        lists = [set(parse_answer(answer.text, truncated=answer.truncated).drugs) for answer in answers]
        shares = {drug: sum(drug in drugs for drugs in lists) / len(lists) for drug in set().union(*lists)}
        assert dict(zip(row["candidates"], row["candidate_votes"], strict=True)) == shares


def test_the_same_seed_draws_the_same_drafts_in_any_chunk(asked, samples, voted, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 3)
    assert draft(asked["tuned"], VOTED, samples, None).equals(voted)
    other = strategy("voted", samples=5, temperature=0.6, seed=1)
    assert not draft(asked["tuned"], other, samples, None).equals(voted)


def test_examples_change_the_question_and_are_counted(asked, samples, training):
    drafts = draft(asked["base"], SHOWN, samples, Examples(training))
    assert drafts["shots"].max() == 1
    assert drafts["text"].to_list() != draft(asked["base"], PLAIN, samples, None)["text"].to_list()


# --- kept -----------------------------------------------------------------------------------------------

ORIGIN = {"cohort_sha256": "0" * 64, "split": "test"}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Checkpoints that were loaded."""
    asked: list[Path] = []
    real = strategy_drafts.load_asked

    def spy(checkpoint: Path, base: str | None) -> Any:
        asked.append(checkpoint)
        return real(checkpoint, base)

    monkeypatch.setattr(strategy_drafts, "load_asked", spy)
    return asked


def test_rows_are_kept_by_name_and_the_checkpoints_own_is_not_made_twice(
    checkpoint, samples, training, tmp_path, loads
):
    told: list[tuple[str, int, int]] = []
    wanted = [PLAIN, SHOWN, VOTED]
    found = predict_strategies(
        wanted, checkpoint, samples, training, ORIGIN, tmp_path, None, lambda *drafted: told.append(drafted)
    )
    assert list(found) == ["zero-shot-base", "shown-base", "voted-tuned"]
    assert sorted(path.stem for path in tmp_path.glob("*.parquet")) == sorted(found)
    assert told == [(row, 8, 8) for row in found]
    again = predict_strategies(wanted, checkpoint, samples, training, ORIGIN, tmp_path, None, QUIET)
    assert len(loads) == 1
    assert all(again[row].equals(found[row]) for row in found)


def test_only_a_row_whose_settings_changed_is_asked_again(checkpoint, samples, training, tmp_path, loads):
    few = samples.head(2)
    predict_strategies([PLAIN, SHOWN], checkpoint, few, training, ORIGIN, tmp_path, None, QUIET)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    changed = strategy("shown", shots=2, on=["base"])
    predict_strategies([PLAIN, changed], checkpoint, few, training, ORIGIN, tmp_path, None, QUIET)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(loads) == 2
    assert {name for name in before if before[name] != after[name]} == {"shown-base.parquet"}


def test_another_cohort_or_split_is_asked_again(checkpoint, samples, training, tmp_path, loads):
    only = [strategy("zero-shot", on=["base"])]
    for origin in (ORIGIN, ORIGIN | {"split": "validation"}, ORIGIN | {"cohort_sha256": "1" * 64}):
        predict_strategies(only, checkpoint, samples.head(1), training, origin, tmp_path, None, QUIET)
    assert len(loads) == 3
