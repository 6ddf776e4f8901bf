"""The label reader: what comes out for a prompt is what one plain pass over it gives, whatever is read beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Diagnosis
from serving.recommenders import label_reader
from serving.recommenders.label_reader import LabelReader, find_opening
from training import base as bases
from training.labels import LabelHead

CLOSE = 1e-5
"""What is left to the rounding of sums, in float32."""


@pytest.fixture(scope="module")
def model(random_base: Path) -> Any:
    return bases.load_model(random_base, torch.float32, "sdpa").eval()


@pytest.fixture(scope="module")
def head(model: Any) -> LabelHead:
    made, draw = LabelHead(model.config.hidden_size, 30), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=draw))
    return made.eval()


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> Any:
    return bases.load_tokenizer(random_base)


@pytest.fixture(scope="module")
def asked(tiny_cohort: Path, tokenizer: Any) -> list[list[int]]:
    samples = read_samples(tiny_cohort, "train").head(30).iter_rows(named=True)
    found = [prompts.encode(tokenizer, prompts.render_prompt(to_admission(sample))) for sample in samples]
    assert len(set(map(len, found))) > 10
    return found


@pytest.fixture(scope="module")
def reader(model: Any, head: LabelHead, tokenizer: Any) -> LabelReader:
    return LabelReader(model, head, find_opening(tokenizer))


def plainly(model: Any, head: LabelHead, ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        return head(hidden, torch.tensor([len(ids)]))[0].numpy()


def test_every_question_begins_with_the_opening(tokenizer, asked):
    opening = find_opening(tokenizer)
    said = tokenizer.decode(opening)
    assert prompts.SYSTEM in said
    assert "Age:" in said
    ages = [Admission((Diagnosis(title="gout"),), age=age) for age in (None, 0, 5, 41, 91)]
    asked = [*asked, *(prompts.encode(tokenizer, prompts.render_prompt(one)) for one in ages)]
    assert all(ids[: len(opening)] == opening for ids in asked)


def test_logits_are_those_of_a_plain_pass_over_each_prompt(reader, model, head, asked):
    wanted = np.stack([plainly(model, head, ids) for ids in asked])
    assert np.ptp(wanted, axis=0).min() > 1000 * CLOSE  # the prompts are told apart, else closeness would prove nothing
    found = reader.read(asked)
    assert found.dtype == np.float64
    assert np.abs(found - wanted).max() < CLOSE


@settings(max_examples=15)
@given(data=st.data(), tokens=st.sampled_from([1, 150, 400, 5000]))
def test_a_row_does_not_hang_on_what_else_is_read(data, tokens, reader, model, head, asked):
    odd = st.lists(st.integers(0, 500), min_size=1, max_size=90)  # without the opening, and shorter than it
    cut = st.builds(lambda ids, end: ids[:end], st.sampled_from(asked), st.integers(1, 70))
    rows = data.draw(st.lists(st.one_of(st.sampled_from(asked), odd, cut), min_size=1, max_size=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(label_reader._TOKENS, "cpu", tokens)
        found = reader.read(rows)
    assert np.abs(found - np.stack([plainly(model, head, ids) for ids in rows])).max() < CLOSE


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_prompt_once_and_no_more_tokens_than_may_be(lengths, tokens):
    batches = list(label_reader._batches(lengths, tokens))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens for batch in batches)


def test_no_prompt_has_no_logits(reader):
    assert reader.read([]).shape == (0, 30)
