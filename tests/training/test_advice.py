"""Advice: given where it is due, with the reason in figures, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from training import advice, methods
from training.config import load_config
from training.fa_lora import lora_layers


def adapted(base: Path) -> Any:
    return methods.attach(AutoModelForCausalLM.from_pretrained(base), load_config("smoke"), 4)


def test_the_reference_sweep_is_called_confounded_with_the_ratio_of_its_steps() -> None:
    [line] = advice.on_config(load_config("reference"))
    assert "2 times as far at rank 16 as at rank 32" in line
    assert "scaling=rslora" in line


@pytest.mark.parametrize(
    "override", ["scaling=rslora", "optimizer=adamw", "ranks=[16]", "method=lora-fa", "method=full"]
)
def test_what_takes_the_scaling_out_is_not_warned_of(override: str) -> None:
    assert advice.on_config(load_config("reference", [override])) == []


@pytest.mark.parametrize(("dtype", "warned"), [("bfloat16", True), ("float32", False)])
def test_a_whole_model_in_bfloat16_is_warned_of(dtype: str, warned: bool) -> None:
    config = load_config("full", [f"dtype={dtype}"])
    assert bool(advice.on_config(config)) is warned
    assert not advice.on_config(load_config("smoke", [f"dtype={dtype}"]))


@pytest.mark.parametrize(("share", "warned"), [(0.0, True), (0.5e-3, True), (2e-3, False)])
def test_an_adapter_that_stands_still_is_told_by_its_share_of_the_base(
    random_base: Path, share: float, warned: bool
) -> None:
    model = adapted(random_base)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            torch.nn.init.normal_(layer.lora_B["default"].weight)
        factor = share * advice.base_norm(model) / methods.update_norm(model)
        for _, layer in lora_layers(model):
            layer.lora_B["default"].weight.mul_(factor)
    told = advice.on_update(model, 7)
    assert (told is not None) is warned
    assert told is None or told.startswith(f"after 7 steps |ΔW| is {share:.2g} of |W|")


def test_a_whole_model_has_nothing_to_be_compared_with(random_base: Path) -> None:
    assert advice.on_update(AutoModelForCausalLM.from_pretrained(random_base), 7) is None
