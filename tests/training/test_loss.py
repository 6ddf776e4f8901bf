"""The loss: however rows are cut, padded or packed, it is the plainest correct one; and what TRL works out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from etl.cohort import read_prompts
from training import methods
from training.base import load_tokenizer
from training.config import load_config
from training.data import IGNORED, Encoded, as_learned, collate, cut_by_rows, cut_by_tokens, deal, encode_split
from training.feed import Feed
from training.loss import ResponseLoss
from training.packing import pack

LOSS, GRADIENT = 1e-6, 2e-5
"""Largest relative difference of a loss, and of a gradient to its norm, in float32."""

Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def rows(tiny_cohort: Path, random_base: Path) -> list[Encoded]:
    return encode_split(read_prompts(tiny_cohort, "train"), load_tokenizer(random_base), 2048).rows[:5]


@pytest.fixture(scope="module")
def model(random_base: Path) -> PeftModel:
    """FA-LoRA whose B is not 0, so that every layer's gradient depends on the others'."""
    model = methods.attach(AutoModelForCausalLM.from_pretrained(random_base), load_config("smoke"), 4)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model


def learned(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> tuple[float, Gradients]:
    model.zero_grad()
    value = loss()
    value.backward()
    return value.item(), {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def plainest(model: PeftModel, rows: Sequence[Encoded]) -> tuple[float, Gradients]:
    """The model's own forward with an attention mask, all logits, and cross-entropy of every labelled token."""

    def loss() -> torch.Tensor:
        input_ids, labels = collate(rows, pad_id=0)
        mask = torch.zeros_like(input_ids)
        for i, row in enumerate(rows):
            mask[i, : len(row.input_ids)] = 1
        logits = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1]
        kind = {"ignore_index": IGNORED, "reduction": "sum"}
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), **kind)

    return learned(model, loss)


def assert_same(ours: tuple[float, Gradients], theirs: tuple[float, Gradients]) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=LOSS)
    assert ours[1].keys() == theirs[1].keys()
    assert ours[1]
    for name, gradient in ours[1].items():
        assert (gradient - theirs[1][name]).norm() <= GRADIENT * theirs[1][name].norm(), name


def fed(model: PeftModel, feed: Feed, rows: Sequence[Encoded]) -> tuple[float, Gradients]:
    return learned(model, lambda: sum(ResponseLoss(model)(*batch[:2], **batch[2]) for batch in feed(rows)))


CPU = torch.device("cpu")
FEEDS = {
    "all at once": Feed(pad_id=0, micro_batch_size=5, packed=False, device=CPU),
    "two by two": Feed(pad_id=0, micro_batch_size=2, packed=False, device=CPU),
    "one by one": Feed(pad_id=0, micro_batch_size=1, packed=False, device=CPU),
    "as many as a CPU takes": Feed(pad_id=0, micro_batch_size=None, packed=False, device=CPU),
    "packed": Feed(pad_id=0, micro_batch_size=5, packed=True, device=CPU),
    "packed by two": Feed(pad_id=0, micro_batch_size=2, packed=True, device=CPU),
}


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_every_way_of_feeding_gives_the_plainest_loss_and_gradient(
    model: PeftModel, rows: list[Encoded], name: str, loss_on: Any
) -> None:
    rows = [as_learned(row, loss_on) for row in rows]
    assert_same(fed(model, FEEDS[name], rows), plainest(model, rows))


def test_recomputed_activations_give_the_plainest_loss_and_gradient(random_base: Path, rows: list[Encoded]) -> None:
    base = AutoModelForCausalLM.from_pretrained(random_base)
    base.activation_checkpointing_enable({"use_reentrant": False})
    base.enable_input_require_grads()
    recomputing = methods.attach(base, load_config("smoke"), 4)
    plain = methods.attach(AutoModelForCausalLM.from_pretrained(random_base), load_config("smoke"), 4)
    ours = learned(recomputing, lambda: ResponseLoss(recomputing.train())(*collate(rows, 0)))
    assert_same(ours, plainest(plain, rows))


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_the_loss_is_trls_on_the_same_batch(
    random_base: Path, rows: list[Encoded], tmp_path: Path, loss_on: Any
) -> None:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    model = AutoModelForCausalLM.from_pretrained(random_base)
    asked = trl.SFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        completion_only_loss=loss_on == "response",
        disable_tqdm=True,
    )
    given = [
        {"input_ids": r.input_ids, "completion_mask": [0] * r.prompt_tokens + [1] * r.response_tokens} for r in rows
    ]
    dataset = datasets.Dataset.from_list(given)
    trainer = trl.SFTTrainer(model, args=asked, train_dataset=dataset, processing_class=load_tokenizer(random_base))
    batch = trainer.data_collator(list(trainer.train_dataset))
    theirs = learned(model, lambda: trainer.compute_loss(model, batch))
    rows = [as_learned(row, loss_on) for row in rows]
    tokens = sum(row.response_tokens for row in rows)
    ours = learned(model, lambda: ResponseLoss(model)(*collate(rows, 0)) / tokens)
    assert ours[0] == pytest.approx(theirs[0], rel=LOSS)
    for name, gradient in ours[1].items():
        assert (gradient - theirs[1][name]).norm() <= GRADIENT * theirs[1][name].norm(), name


def test_prompt_tokens_get_no_logits(model: PeftModel, rows: list[Encoded]) -> None:
    seen: list[int] = []
    hook = model.get_base_model().lm_head.register_forward_hook(lambda m, args, output: seen.append(output.shape[0]))
    ResponseLoss(model)(*collate(rows, 0))
    hook.remove()
    assert seen == [sum(row.response_tokens for row in rows)]


def test_from_a_stand_in_nothing_is_learned(model: PeftModel, rows: list[Encoded]) -> None:
    """A process without a row takes part in the backward pass: every gradient is there, and 0."""
    [[stand_in]] = deal(rows[:1], lambda share: cut_by_rows(share, 1), processes=2, process=1)
    loss, gradients = learned(model, lambda: ResponseLoss(model)(*collate([stand_in], 0)))
    assert loss == 0
    assert gradients.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not any(gradient.any() for gradient in gradients.values())


LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=40).map(sorted)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 200))
@settings(max_examples=60)
def test_a_batch_is_dealt_whole_and_evenly(lengths: list[int], processes: int, tokens: int) -> None:
    batch = [Encoded([i] * length, 1) for i, length in enumerate(lengths)]
    dealt = [deal(batch, lambda rows: cut_by_tokens(rows, tokens), processes, place) for place in range(processes)]
    assert len({len(micro_batches) for micro_batches in dealt}) == 1
    rows = [row for micro_batches in dealt for micro_batch in micro_batches for row in micro_batch]
    assert sorted(row.input_ids[0] for row in rows if row.response_tokens) == list(range(len(batch)))
    for micro_batch in (micro_batch for micro_batches in dealt for micro_batch in micro_batches):
        assert len(micro_batch) == 1 or len(micro_batch) * max(len(row.input_ids) for row in micro_batch) <= tokens


def test_packed_rows_begin_where_they_say(rows: list[Encoded]) -> None:
    input_ids, labels, where = pack([as_learned(row, "all") for row in rows])
    bounds = where["cu_seq_lens_q"].tolist()
    for row, (start, end) in zip(rows, pairwise(bounds), strict=True):
        assert input_ids[0, start:end].tolist() == row.input_ids
        assert where["position_ids"][0, start:end].tolist() == list(range(end - start))
        assert labels[0, start] == IGNORED
        assert labels[0, start + 1 : end].tolist() == row.input_ids[1:]
    assert where["max_length_q"] == max(len(row.input_ids) for row in rows)
