"""LoRA-FA's correction: the projection it claims to be, and PEFT's own optimiser step for step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.optimizers import create_lorafa_optimizer
from peft.optimizers import lorafa as peft_lorafa
from transformers import AutoModelForCausalLM

from etl.errors import ConfigError
from training import methods
from training.config import load_config
from training.fa_lora import lora_layers
from training.lora_fa import gradient_projection

IDS = torch.arange(2, 42).reshape(2, 20)
SEEDS = st.integers(0, 2**31)
RANKS = st.integers(1, 8)
SCALINGS = st.floats(0.05, 20)


def built(base: Path, *overrides: str) -> tuple[Any, Any]:
    settings = load_config("smoke", ["method=lora-fa", *overrides])
    return methods.attach(AutoModelForCausalLM.from_pretrained(base), settings, 4), settings


@given(SEEDS, RANKS, SCALINGS)
def test_the_projection_undoes_a_and_the_scaling(seed: int, rank: int, scaling: float) -> None:
    a = torch.randn(rank, 32, generator=torch.Generator().manual_seed(seed))
    projection = gradient_projection(a, scaling)
    torch.testing.assert_close(projection @ (scaling**2 * a @ a.T), torch.eye(rank), rtol=1e-3, atol=1e-3)


@given(SEEDS, RANKS, SCALINGS)
def test_the_corrected_step_is_the_full_gradient_projected_onto_the_rows_of_a(
    seed: int, rank: int, scaling: float
) -> None:
    """No step of B comes nearer to the step that full fine-tuning would take, whatever alpha is."""
    generator = torch.Generator().manual_seed(seed)
    a, full = torch.randn(rank, 32, generator=generator), torch.randn(16, 32, generator=generator)
    step = scaling * (scaling * full @ a.T) @ gradient_projection(a, scaling) @ a
    onto_rows = torch.linalg.pinv(a) @ a
    torch.testing.assert_close(step, full @ onto_rows, rtol=1e-3, atol=1e-3)


def test_a_rank_beyond_the_inputs_is_refused_with_both_named() -> None:
    with pytest.raises(ConfigError, match="rank 9 exceeds a layer's 8 inputs"):
        gradient_projection(torch.randn(9, 8), 1.0)


def test_five_steps_equal_those_of_pefts_own_optimiser(random_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT multiplies in bfloat16 where it can, we never do; without that the same B follows."""
    monkeypatch.setattr(peft_lorafa, "is_bf16_available", lambda: False)
    theirs, _ = built(random_base)
    optimizer = create_lorafa_optimizer(theirs, r=4, lora_alpha=16, lr=1e-2)
    ours, settings = built(random_base)
    correction = methods.GradientCorrection(ours, settings)
    learning = [weight for weight in ours.parameters() if weight.requires_grad]
    adamw = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.0)
    optimizer.param_groups[0]["eps"] = adamw.param_groups[0]["eps"] = 0.0  # added at different places
    for _ in range(5):
        for model in (theirs, ours):
            model(input_ids=IDS, labels=IDS).loss.backward()
        correction.apply()
        for taken in (optimizer, adamw):
            taken.step()
            taken.zero_grad()
    pairs = zip(lora_layers(theirs), lora_layers(ours), strict=True)
    for (name, their_layer), (_, our_layer) in pairs:
        wanted, found = their_layer.lora_B["default"].weight, our_layer.lora_B["default"].weight
        assert wanted.abs().max() > 0, name
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_under_sgd_the_step_does_not_depend_on_alpha(random_base: Path) -> None:
    norms = []
    for alpha in (4, 64):
        model, settings = built(random_base, f"alpha={alpha}", "optimizer=sgd")
        correction = methods.GradientCorrection(model, settings)
        model(input_ids=IDS, labels=IDS).loss.backward()
        correction.apply()
        torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1).step()
        norms.append(methods.update_norm(model))
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize("method", ["fa-lora", "lora"])
def test_no_other_methods_gradient_is_touched(random_base: Path, method: str) -> None:
    settings = load_config("smoke", [f"method={method}"])
    model: Any = methods.attach(AutoModelForCausalLM.from_pretrained(random_base), settings, 4)
    model(input_ids=IDS, labels=IDS).loss.backward()
    before = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    methods.GradientCorrection(model, settings).apply()
    assert all(torch.equal(weight.grad, before[name]) for name, weight in model.named_parameters() if name in before)
