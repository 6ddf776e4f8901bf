"""The engine: the base alone, samples and likelihoods, each the same whatever else is asked beside it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.errors import ContractError
from serving.recommenders.engine import Engine, Likelihood, _Draw
from serving.recommenders.lists import Recommender
from training import base as bases

ROOM = 24
"""Tokens of an answer: enough to differ, quick to make."""


@pytest.fixture(scope="module")
def engine(recommender: Recommender) -> Engine:
    return recommender.engine


@pytest.fixture(scope="module")
def adapter(recommender: Recommender) -> str:
    return recommender.adapter


@pytest.fixture(scope="module")
def asked(tiny_cohort: Path, engine: Engine) -> list[list[int]]:
    """Prompts of several lengths."""
    samples = read_samples(tiny_cohort, "test").iter_rows(named=True)
    ids = [prompts.encode(engine.tokenizer, prompts.render_prompt(to_admission(sample))) for sample in samples]
    assert len({len(row) for row in ids}) > 3
    return ids[:9]


@pytest.fixture(scope="module")
def bare(recommender: Recommender) -> Engine:
    """The same base, on which no adapter was ever put."""
    return Engine(recommender.manifest.base, recommender.manifest.base_sha256)


@pytest.fixture(scope="module")
def ends(engine: Engine, asked: list[list[int]]) -> list[list[list[int]]]:
    """Continuations of several lengths, another number of them for every prompt."""
    names = ["aspirin", "heparin sodium", "furosemide\nmetoprolol tartrate\naspirin", "A", "potassium chloride"]
    coded = [engine.tokenizer.encode(name, add_special_tokens=False) for name in names]
    assert {len(ids) for ids in coded} > {1, 2}
    return [coded[: 1 + i % len(coded)] for i in range(len(asked))]


def sampled(engine: Engine, asked: list[list[int]], adapter: str | None, **how: float) -> list[list[str]]:
    drawn = engine.sample(asked, adapter, ROOM, **({"samples": 3, "temperature": 1.5, "seed": 5} | how))
    return [[answer.text for answer in answers] for answers in drawn]


def close(found: list[list[Likelihood]], wanted: list[list[Likelihood]]) -> bool:
    pairs = [pair for these, those in zip(found, wanted, strict=True) for pair in zip(these, those, strict=True)]
    return all(a.tokens == b.tokens and math.isclose(a.total, b.total, abs_tol=1e-3) for a, b in pairs)


# --- the base alone -------------------------------------------------------------------------------------


def test_without_an_adapter_the_base_answers_as_if_there_were_none(engine, bare, adapter, asked):
    alone = bare.generate(asked, None, ROOM)
    tuned = engine.generate(asked, adapter, ROOM)
    assert tuned != alone  # else equality would prove nothing
    assert engine.generate(asked, None, ROOM) == alone
    assert engine.generate(asked, adapter, ROOM) == tuned


def test_the_base_and_an_adapter_asked_at_once_do_not_mix(engine, adapter, asked):
    names = [None, adapter] * 3
    one_by_one = [engine.generate(asked[:3], name, ROOM) for name in names]
    with ThreadPoolExecutor(len(names)) as pool:
        at_once = [pool.submit(engine.generate, asked[:3], name, ROOM) for name in names]
        assert [answer.result() for answer in at_once] == one_by_one


def test_a_base_without_checkpoints_needs_no_digest_but_is_held_to_one_that_is_given(recommender, asked):
    free = Engine(recommender.manifest.base, None)
    assert free.generate(asked[:1], None, 2)
    with pytest.raises(ContractError, match="trained on 000000000000"):
        Engine(recommender.manifest.base, "0" * 64)


# --- samples --------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_samples_again_and_another_seed_others(engine, adapter, asked):
    first = sampled(engine, asked, adapter)
    assert sampled(engine, asked, adapter) == first
    assert sampled(engine, asked, adapter, seed=6) != first
    assert any(len(set(texts)) > 1 for texts in first)


def test_a_sample_does_not_hang_on_what_else_is_asked(engine, adapter, asked):
    together = sampled(engine, asked, adapter)
    assert [sampled(engine, [ids], adapter)[0] for ids in asked] == together
    assert sampled(engine, asked, adapter, batch_size=4) == together
    assert [texts[:2] for texts in together] == sampled(engine, asked, adapter, samples=2)


def test_sampling_leaves_the_callers_random_state_alone(engine, adapter, asked):
    before = torch.get_rng_state()
    sampled(engine, asked[:2], adapter)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_base_can_be_sampled_as_well(engine, bare, adapter, asked):
    assert sampled(engine, asked, None) == sampled(bare, asked, None) != sampled(engine, asked, adapter)


def test_a_cold_sample_is_the_greedy_answer(engine, adapter, asked):
    greedy = [[answer.text] for answer in engine.generate(asked, adapter, ROOM)]
    assert sampled(engine, asked, adapter, temperature=1e-4, samples=1) == greedy


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_come_as_often_as_the_tempered_distribution_says(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    rows = 4000
    draw = _Draw(temperature, list(range(rows)), torch.device("cpu"))
    chosen = draw(torch.zeros(rows, 1), logits.repeat(rows, 1)).argmax(1)
    shares = torch.bincount(chosen, minlength=5) / rows
    wanted = (logits / temperature).softmax(0)
    errors = (wanted * (1 - wanted) / rows).sqrt()
    assert (shares - wanted).abs().le(4 * errors + 1e-9).all()


# --- likelihoods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [True, False])
def test_a_likelihood_is_what_one_pass_over_the_whole_text_gives(engine, recommender, adapter, asked, ends, alone):
    model = (
        engine._model
        if not alone
        else bases.load_model(Path(recommender.manifest.base), torch.float32, bases.resolve_attention("auto"))
    )
    if not alone:
        model.set_adapter(adapter)
    wanted = []
    for ids, continuations in zip(asked, ends, strict=True):
        scores = []
        for continuation in continuations:
            with torch.inference_mode():
                logits = model(torch.tensor([ids + continuation])).logits[0]
            rows = logits.log_softmax(1)[len(ids) - 1 : -1]
            scores.append(Likelihood(rows[range(len(continuation)), continuation].sum().item(), len(continuation)))
        wanted.append(scores)
    assert close(engine.log_likelihoods(asked, ends, None if alone else adapter), wanted)


def test_a_likelihood_does_not_hang_on_what_else_is_asked(engine, adapter, asked, ends):
    together = engine.log_likelihoods(asked, ends, adapter)
    assert close(engine.log_likelihoods(asked, ends, adapter, batch_size=2), together)
    one_by_one = [engine.log_likelihoods([ids], [these], adapter)[0] for ids, these in zip(asked, ends, strict=True)]
    assert close(one_by_one, together)


def test_the_likelihoods_of_all_next_tokens_add_up_to_one(engine, adapter, asked):
    every = [[token] for token in range(engine._model.config.vocab_size)]
    [scores] = engine.log_likelihoods(asked[:1], [every], adapter)
    assert sum(math.exp(score.total) for score in scores) == pytest.approx(1, abs=1e-4)
    likeliest = max(range(len(every)), key=lambda token: scores[token].total)
    [greedy] = engine.generate(asked[:1], adapter, 1)
    assert greedy.text == engine.tokenizer.decode([likeliest], skip_special_tokens=True)


def test_no_prompt_has_no_likelihood(engine, adapter):
    assert engine.log_likelihoods([], [], adapter) == []
