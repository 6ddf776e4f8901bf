"""Label models served: the draft is what the head says, one by one, together, and beside other checkpoints."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Diagnosis
from etl.errors import ConfigError, ContractError
from etl.prompts import Outcome, render_answer
from serving.probabilities.calibration import Calibration
from serving.probabilities.curves import Curve, Kind
from serving.probabilities.cut import Cut, Rule
from serving.recommendation import BusyError, LateError, Recommendation
from serving.recommenders import labels
from serving.recommenders.gathering import Gatherer
from serving.recommenders.labels import LabelRecommender
from serving.recommenders.lists import load_recommenders
from tests.serving.label_checkpoints import make_label_checkpoint
from training import base as bases
from training.labels import LabelHead, load_head, save_head
from training.manifest import find_checkpoints, read_manifest, write_manifest

CLOSE = 1e-5
"""What a probability may hang on its company: the rounding of sums."""


@pytest.fixture(scope="module")
def checkpoint(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    return make_label_checkpoint(find_checkpoints(trained_runs)[-1], folder / "step-000004", seed=1)


@pytest.fixture(scope="module")
def recommenders(checkpoint: Path, trained_runs: Path) -> list[Any]:
    """Two that score labels and one that writes lists, on one base."""
    lists = find_checkpoints(trained_runs)[0]
    other = make_label_checkpoint(lists, checkpoint.parent / "other", seed=2)
    return load_recommenders([checkpoint, lists, other])


@pytest.fixture(scope="module")
def recommender(recommenders: list[Any]) -> LabelRecommender:
    assert isinstance(recommenders[0], LabelRecommender)
    return recommenders[0]


@pytest.fixture(scope="module")
def admissions(tiny_cohort: Path) -> list[Admission]:
    return [to_admission(facts) for facts in read_samples(tiny_cohort, "train").iter_rows(named=True)]


@pytest.fixture
def gathered(recommender: LabelRecommender) -> Any:
    """Give the engine another gatherer for a while."""
    usual = recommender.engine.gatherer

    def put(gatherer: Gatherer[Any, Any]) -> Gatherer[Any, Any]:
        recommender.engine.gatherer = gatherer
        return gatherer

    yield put
    recommender.engine.gatherer = usual


def together(drafts: Sequence[Awaitable[Recommendation]]) -> list[Any]:
    async def gather() -> list[Any]:
        return await asyncio.gather(*drafts, return_exceptions=True)

    return asyncio.run(gather())


def same(found: Recommendation, wanted: Recommendation) -> bool:
    assert found.chances is not None
    assert wanted.chances is not None
    near = np.abs(np.array(found.chances) - np.array(wanted.chances)).max() < CLOSE
    return bool(near) and replace(found, chances=None, probabilities=None) == replace(
        wanted, chances=None, probabilities=None
    )


# --- one draft ------------------------------------------------------------------------------------------


def test_a_draft_is_the_head_s_most_probable_drugs_in_falling_order(recommender, admissions):
    scores = recommender.scores(admissions[:20])
    formulary = recommender.vocabulary.formulary
    drafted = recommender.recommend(admissions[:20])
    assert len({one.answer.drugs for one in drafted}) > 5
    for one, row in zip(drafted, scores, strict=True):
        drugs = one.answer.drugs
        assert one.answer.outcome is Outcome.OK
        assert one.text == render_answer(drugs)
        assert np.abs(np.array(one.chances) - row).max() < CLOSE
        assert drugs == tuple(formulary[place] for place in np.argsort(-np.array(one.chances))[: len(drugs)])
        assert one.probabilities == tuple(one.chances[formulary.index(drug)] for drug in drugs)
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert 1 <= len(drugs) < len(formulary)


@pytest.mark.parametrize("place", [0, 2])
def test_logits_are_those_of_a_checkpoint_s_own_adapter_and_head(place, recommenders, admissions):
    recommender = recommenders[place]
    folder = recommender.checkpoint / "adapter"
    base = bases.load_model(Path(recommender.manifest.base), torch.float32, "sdpa").eval()
    tuned, head = PeftModel.from_pretrained(base, folder).eval(), load_head(folder)
    prompts, _ = recommender.encode(admissions[:6])

    def logits(ids: list[int]) -> Any:
        hidden = base.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        return head(hidden, torch.tensor([len(ids)]))[0].numpy()

    with torch.inference_mode():
        wanted = np.stack([logits(ids) for ids in prompts])
        with tuned.disable_adapter():
            without = np.stack([logits(ids) for ids in prompts])
    assert np.abs(wanted - without).max() > 100 * CLOSE
    assert np.abs(recommender.engine.label_logits(prompts, recommender.adapter) - wanted).max() < CLOSE


def test_a_calibration_moves_the_probabilities_and_cuts_the_list(checkpoint, recommender, admissions, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "calibrated")
    calibration = Calibration(Curve(Kind.PLATT, slope=0.5, intercept=-1.0), Cut(Rule.FALSE_POSITIVES, 2.0))
    write_manifest(folder, replace(read_manifest(folder), calibration=calibration.to_json()))
    [calibrated] = load_recommenders([folder])
    for one, plain in zip(calibrated.recommend(admissions[:5]), recommender.recommend(admissions[:5]), strict=True):
        logits = np.log(np.array(plain.chances) / (1 - np.array(plain.chances)))
        assert np.abs(np.array(one.chances) - 1 / (1 + np.exp(1.0 - 0.5 * logits))).max() < CLOSE
        expected_wrong = sum(1 - chance for chance in one.probabilities)
        assert expected_wrong <= 2.0
        assert len(one.answer.drugs) != len(plain.answer.drugs)


@settings(max_examples=20)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=40), st.integers(0, 120))
def test_any_words_for_diagnoses_give_a_list_of_formulary_drugs(recommender, titles, age):
    [one] = recommender.recommend([Admission(tuple(Diagnosis(title=title or "x") for title in titles), age=age)])
    assert one.answer.outcome is Outcome.OK
    assert set(one.answer.drugs) <= set(recommender.vocabulary.formulary)
    assert len(set(one.answer.drugs)) == len(one.answer.drugs) > 0
    assert all(0 < chance < 1 for chance in one.chances)


def test_diagnoses_that_the_prompt_has_no_room_for_are_counted(recommender):
    [one] = recommender.recommend([Admission(tuple(Diagnosis(title=f"disease number {i}") for i in range(300)))])
    assert 100 < one.dropped_diagnoses < 300
    assert one.answer.drugs


def test_many_admissions_are_drafted_part_by_part_to_the_same_end(recommender, admissions, monkeypatch):
    whole = recommender.recommend(admissions[:20])
    monkeypatch.setattr(labels, "_PART", 7)
    assert all(map(same, recommender.recommend(admissions[:20]), whole))
    assert recommender.recommend([]) == []


def test_what_the_model_writes_is_refused_since_it_writes_nothing(recommender, admissions):
    with pytest.raises(ConfigError, match="label model, which writes nothing; leave --raw out"):
        recommender.recommend(admissions[:1], raw=True)


def test_an_admission_without_a_diagnosis_is_refused_in_both_ways(recommender):
    with pytest.raises(ConfigError, match="without a diagnosis"):
        recommender.recommend([Admission(())])
    with pytest.raises(ConfigError, match="without a diagnosis"):
        asyncio.run(recommender.draft(Admission(())))


# --- the checkpoint -------------------------------------------------------------------------------------


def test_a_head_of_another_formulary_is_refused_with_both_numbers(trained_runs, recommender, tmp_path):
    drugs = len(recommender.vocabulary.formulary)
    folder = make_label_checkpoint(find_checkpoints(trained_runs)[-1], tmp_path / "odd", seed=1, labels=drugs - 1)
    with pytest.raises(ContractError, match=f"a head for {drugs - 1} drugs and a formulary of {drugs}"):
        load_recommenders([folder])


def test_a_head_that_was_changed_is_refused(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "changed")
    save_head(LabelHead(64, 7), folder / "adapter")
    with pytest.raises(ContractError, match="not what its manifest was written for"):
        load_recommenders([folder])


# --- many drafts at once --------------------------------------------------------------------------------


def test_two_hundred_drafts_at_once_are_what_they_are_one_by_one(recommender, admissions, gathered):
    asked = [admissions[i % len(admissions)] for i in range(200)]
    known = {one: recommender.recommend([one])[0] for one in set(asked)}
    calls: list[int] = []

    def ask(prompts: Sequence[list[int]], adapter: str) -> Any:
        calls.append(len(prompts))
        return recommender.engine.label_logits(prompts, adapter)

    gatherer = gathered(Gatherer(ask))
    found = together([recommender.draft(one, 60) for one in asked])
    gatherer.close()
    assert all(same(one, known[admission]) for one, admission in zip(found, asked, strict=True))
    assert sum(calls) == 200
    assert max(calls) > 1


def test_checkpoints_that_score_and_that_write_share_an_engine_without_mixing(recommenders, admissions):
    alone = [[one.recommend([admission])[0] for admission in admissions[:6]] for one in recommenders]
    found = together([one.draft(admission, 60) for one in recommenders for admission in admissions[:6]])
    for i, (first, lists, other) in enumerate(zip(found[:6], found[6:12], found[12:], strict=True)):
        assert same(first, alone[0][i])
        assert lists == alone[1][i]
        assert same(other, alone[2][i])
        assert not same(first, other)


def test_too_many_at_once_are_told_so_and_the_others_are_drafted(recommender, admissions, gathered):
    gatherer = gathered(Gatherer(recommender.engine.label_logits, waiting=2))
    with recommender.engine.turned_to(None):  # nothing moves meanwhile
        [ids], _ = recommender.encode(admissions[:1])
        first = gatherer.submit(ids, recommender.adapter)
        while gatherer.waiting:
            time.sleep(0.001)
        waiting = [gatherer.submit(ids, recommender.adapter) for _ in range(2)]
        with pytest.raises(BusyError, match="2 requests are waiting"):
            asyncio.run(recommender.draft(admissions[0], 60))
    assert all(len(one.result(60)) == len(recommender.vocabulary.formulary) for one in (first, *waiting))
    gatherer.close()


def test_a_draft_that_is_late_or_given_up_ends_and_the_next_is_made(recommender, admissions):
    async def impatient() -> None:
        drafting = asyncio.create_task(recommender.draft(admissions[1], 60))
        while not recommender.engine.gatherer.waiting:
            await asyncio.sleep(0.001)
        drafting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drafting

    with pytest.raises(LateError, match="deadline"):
        asyncio.run(recommender.draft(admissions[0], 0))
    with recommender.engine.turned_to(None):
        [ids], _ = recommender.encode(admissions[:1])
        first = recommender.engine.gatherer.submit(ids, recommender.adapter)
        while recommender.engine.gatherer.waiting:
            time.sleep(0.001)
        asyncio.run(impatient())
    first.result(60)
    assert asyncio.run(recommender.draft(admissions[0], 60)).answer.drugs


def test_a_pass_that_fails_is_told_and_the_next_draft_is_made(recommender, admissions):
    with pytest.raises(IndexError):
        recommender.engine.gatherer.submit([10**6], recommender.adapter).result(60)
    assert same(asyncio.run(recommender.draft(admissions[0], 60)), recommender.recommend(admissions[:1])[0])
