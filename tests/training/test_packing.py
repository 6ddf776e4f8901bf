"""Packing: no conversation sees another where it is exact, and it is refused where it would be slow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from etl.errors import ConfigError
from training.config import load_config
from training.data import Encoded
from training.packing import pack, packs

LENGTHS = (7, 23, 12)


@pytest.fixture(scope="module")
def model(random_base: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(random_base).eval()


def rows_of(first_token: int = 3) -> list[Encoded]:
    return [Encoded([first_token if i == 0 else 40 + i, *range(5, 4 + length)], 2) for i, length in enumerate(LENGTHS)]


@torch.no_grad()
def packed_logits(model: PreTrainedModel, rows: list[Encoded], *, use_cache: bool) -> torch.Tensor:
    input_ids, _, where = pack(rows)
    return model(input_ids=input_ids, use_cache=use_cache, **where).logits[0]


@torch.no_grad()
def leak(model: PreTrainedModel, *, use_cache: bool) -> float:
    alone = [model(input_ids=torch.tensor([row.input_ids])).logits[0] for row in rows_of()]
    return float((packed_logits(model, rows_of(), use_cache=use_cache) - torch.cat(alone)).abs().max())


def test_packed_conversations_are_what_they_are_alone(model: PreTrainedModel) -> None:
    assert leak(model, use_cache=False) < 1e-5


def test_with_a_cache_they_see_each_other_so_the_test_above_tests_something(model: PreTrainedModel) -> None:
    assert leak(model, use_cache=True) > 1e-3


def test_a_changed_token_moves_no_later_conversation(model: PreTrainedModel) -> None:
    before, after = (packed_logits(model, rows_of(token), use_cache=False) for token in (3, 4))
    assert not torch.equal(before[: LENGTHS[0]], after[: LENGTHS[0]])
    assert torch.equal(before[LENGTHS[0] :], after[LENGTHS[0] :])


def test_packing_is_chosen_only_where_varlen_attention_runs() -> None:
    auto, off = load_config("smoke"), load_config("smoke", ["packing=off"])
    assert packs(auto, "flash_attention_2")
    assert not packs(auto, "sdpa")
    assert not packs(off, "flash_attention_2")
    assert not packs(load_config("labels"), "flash_attention_2")


def test_packing_by_name_is_refused_in_one_line_where_it_would_be_slower() -> None:
    with pytest.raises(ConfigError, match="packing on needs flash_attention_2 and sdpa runs") as error:
        packs(load_config("smoke", ["packing=on"]), "sdpa")
    assert "\n" not in str(error.value)
