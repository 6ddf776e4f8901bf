"""A: which PEFT calls undo a plain freeze and not the registered one, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from training import fa_lora

TARGETS = ("q_proj", "v_proj")


def adapted(base: Path, rank: int = 4, a_seed: int = 0) -> PeftModel:
    config = LoraConfig(r=rank, target_modules=list(TARGETS))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    fa_lora.seed_lora_a(model, a_seed)
    fa_lora.freeze_lora_a(model)
    return model


@pytest.fixture
def model(random_base: Path) -> PeftModel:
    return adapted(random_base)


def learning(model: torch.nn.Module) -> set[str]:
    return {
        kind for name, p in model.named_parameters() if p.requires_grad for kind in ("lora_A", "lora_B") if kind in name
    }


def switch(model: PeftModel) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=list(TARGETS)))
    model.set_adapter("other")
    model.set_adapter("default")


def disable_for_a_while(model: PeftModel) -> None:
    with model.disable_adapter():
        model(input_ids=torch.ones(1, 3, dtype=torch.long))


def layers_off_and_on(model: PeftModel) -> None:
    model.base_model.disable_adapter_layers()
    model.base_model.enable_adapter_layers()


def merge_and_unmerge(model: PeftModel) -> None:
    model.merge_adapter()
    model.unmerge_adapter()


def train_and_eval(model: PeftModel) -> None:
    model.train()
    model.eval()


def checkpoint_and_generate(model: PeftModel) -> None:
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    model.generate(input_ids=torch.ones(1, 3, dtype=torch.long), max_new_tokens=2)


UNDOING: list[Callable[[PeftModel], None]] = [switch, disable_for_a_while, layers_off_and_on]
HARMLESS: list[Callable[[PeftModel], None]] = [merge_and_unmerge, train_and_eval, checkpoint_and_generate]


@pytest.mark.parametrize("call", UNDOING + HARMLESS)
def test_the_registered_freeze_survives(model: PeftModel, call: Callable[[PeftModel], None]) -> None:
    call(model)
    assert learning(model) == {"lora_B"}


@pytest.mark.parametrize("call", UNDOING)
def test_a_plain_freeze_is_undone_so_the_registered_one_is_needed(
    random_base: Path, call: Callable[[PeftModel], None]
) -> None:
    base = AutoModelForCausalLM.from_pretrained(random_base)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=list(TARGETS)))
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            weight.requires_grad_(False)
    call(model)
    assert learning(model) == {"lora_A", "lora_B"}, "PEFT changed: the registered freeze may no longer be needed"


def test_a_smaller_ranks_a_is_the_first_rows_of_a_larger_ones(random_base: Path) -> None:
    drawn = {rank: fa_lora.lora_a(adapted(random_base, rank, a_seed=7)) for rank in (2, 8)}
    assert drawn[2].keys() == drawn[8].keys()
    assert all(torch.equal(drawn[2][name], drawn[8][name][:2]) for name in drawn[2])


def test_every_layer_and_every_seed_draws_another_a(random_base: Path) -> None:
    def first_rows(seed: int) -> list[torch.Tensor]:
        return [a[0] for a in fa_lora.lora_a(adapted(random_base, 2, seed)).values()]

    rows = [tuple(row.tolist()) for seed in (0, 1) for row in first_rows(seed)]
    assert len(set(rows)) == len(rows)


def test_a_is_drawn_within_pefts_own_bound(model: PeftModel) -> None:
    for a in fa_lora.lora_a(model).values():
        bound = a.shape[1] ** -0.5
        assert a.abs().max() <= bound
        assert a.abs().max() > 0.9 * bound
