"""FA-LoRA's promises: what learns, what never moves, and which PEFT calls cannot undo it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from training import fa_lora

TARGETS = ("q_proj", "v_proj")


@pytest.fixture
def model(random_base: Path) -> PeftModel:
    return fa_lora.add_fa_lora(AutoModelForCausalLM.from_pretrained(random_base), 4, 16, TARGETS, a_seed=0)


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


def test_a_learning_a_matrix_is_refused(model: PeftModel) -> None:
    next(p for name, p in model.named_parameters() if "lora_A" in name).requires_grad_(True)
    with pytest.raises(fa_lora.TrainingStateError, match="1 parameters learn"):
        fa_lora.check_only_b_trains(model)


def test_a_frozen_b_matrix_is_refused(model: PeftModel) -> None:
    next(p for name, p in model.named_parameters() if "lora_B" in name).requires_grad_(False)
    with pytest.raises(fa_lora.TrainingStateError):
        fa_lora.check_only_b_trains(model)


@pytest.mark.parametrize(("rank", "trainable"), [(32, 5_242_880), (16, 2_621_440)])
def test_llama_3_1_8b_has_the_published_number_of_trainable_parameters(rank: int, trainable: int) -> None:
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        base = LlamaForCausalLM(config)
        assert sum(p.numel() for p in base.parameters()) == 8_030_261_248
        lora = LoraConfig(r=rank, lora_alpha=16, target_modules=list(TARGETS))
        model = get_peft_model(base, lora, low_cpu_mem_usage=True)
    fa_lora.freeze_lora_a(model)
    fa_lora.check_only_b_trains(model)
    assert fa_lora.count_trainable(model) == trainable


def test_a_smaller_ranks_a_is_the_first_rows_of_a_larger_ones(random_base: Path) -> None:
    drawn = {
        rank: fa_lora.lora_a(
            fa_lora.add_fa_lora(AutoModelForCausalLM.from_pretrained(random_base), rank, 16, TARGETS, a_seed=7)
        )
        for rank in (2, 8)
    }
    assert drawn[2].keys() == drawn[8].keys()
    assert all(torch.equal(drawn[2][name], drawn[8][name][:2]) for name in drawn[2])


def test_every_layer_and_every_seed_draws_another_a(random_base: Path) -> None:
    def first_rows(seed: int) -> list[torch.Tensor]:
        base = AutoModelForCausalLM.from_pretrained(random_base)
        return [a[0] for a in fa_lora.lora_a(fa_lora.add_fa_lora(base, 2, 16, TARGETS, a_seed=seed)).values()]

    rows = [tuple(row.tolist()) for seed in (0, 1) for row in first_rows(seed)]
    assert len(set(rows)) == len(rows)


def test_a_is_drawn_within_pefts_own_bound(model: PeftModel) -> None:
    for a in fa_lora.lora_a(model).values():
        bound = a.shape[1] ** -0.5
        assert a.abs().max() <= bound
        assert a.abs().max() > 0.9 * bound


def test_update_norm_is_the_norm_of_the_merged_difference(model: PeftModel) -> None:
    assert fa_lora.update_norm(model) == 0.0
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    before = {name: layer.get_base_layer().weight.clone() for name, layer in fa_lora.lora_layers(model)}
    model.merge_adapter()
    moved = [(layer.get_base_layer().weight - before[name]).norm() for name, layer in fa_lora.lora_layers(model)]
    assert fa_lora.update_norm(model) == pytest.approx(float(torch.stack(moved).norm()), rel=1e-4)


def test_targets_that_name_no_layer_are_refused(random_base: Path) -> None:
    with pytest.raises(ValueError, match="no_such_proj"):
        fa_lora.add_fa_lora(AutoModelForCausalLM.from_pretrained(random_base), 4, 16, ("no_such_proj",), a_seed=0)
