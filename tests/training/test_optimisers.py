"""Optimisers and schedules: every weight that learns is moved by one of them, at the rate the schedule says."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from training import methods
from training.config import TrainConfig, load_config
from training.labels import LabelHead
from training.optimisers import learning_rate, make_optimizers, set_rate

IDS = torch.arange(2, 42).reshape(2, 20)


def scheduled(schedule: str, warmup: int, steps: int) -> TrainConfig:
    return load_config("smoke", [f"schedule={schedule}", f"warmup_steps={warmup}", f"checkpoint_steps=[{steps}]"])


def built(base: Path, *overrides: str) -> tuple[Any, list[torch.optim.Optimizer]]:
    settings = load_config("smoke", overrides)
    rank = 0 if settings.method == "full" else 4
    model: Any = methods.attach(AutoModelForCausalLM.from_pretrained(base), settings, rank)
    return model, make_optimizers(settings, model)


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 20), st.integers(1, 60))
def test_the_rate_rises_to_its_highest_and_never_again(schedule: str, warmup: int, beyond: int) -> None:
    steps = warmup + beyond
    config = scheduled(schedule, warmup, steps)
    rates = [learning_rate(config, step, steps) for step in range(1, steps + 1)]
    assert rates[:warmup] == pytest.approx([config.learning_rate * step / warmup for step in range(1, warmup + 1)])
    after = rates[warmup:]
    assert all(0 <= later <= earlier <= config.learning_rate for earlier, later in pairwise(after))
    assert after[-1] == pytest.approx(config.learning_rate if schedule == "constant" else 0, abs=1e-12)


@pytest.mark.parametrize(("schedule", "half"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_half_way_the_rate_is_where_its_shape_says(schedule: str, half: float) -> None:
    config = scheduled(schedule, 0, 8)
    assert learning_rate(config, 4, 8) == pytest.approx(config.learning_rate * half)
    quarter = {"constant": 1.0, "linear": 0.75, "cosine": 0.5 * (1 + 0.5**0.5)}[schedule]
    assert learning_rate(config, 2, 8) == pytest.approx(config.learning_rate * quarter)


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=fa-lora", "optimizer=sgd"],
        ["method=fa-lora", "optimizer=adamw"],
        ["method=lora", "optimizer=adamw"],
        ["method=full", "optimizer=adamw"],
        ["method=full", "optimizer=muon"],
    ],
)
def test_every_weight_that_learns_has_one_optimiser_and_no_other_weight_has(
    random_base: Path, overrides: list[str]
) -> None:
    model, optimizers = built(random_base, *overrides)
    held = [weight for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]]
    assert len({id(weight) for weight in held}) == len(held)
    assert sum(weight.numel() for weight in held) == methods.count_trainable(model)
    assert all(weight.requires_grad for weight in held)


def test_muon_moves_the_matrices_of_layers_and_adamw_the_rest(random_base: Path) -> None:
    model, (muon, adamw) = built(random_base, "method=full", "optimizer=muon")
    inner = {id(weight) for group in muon.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert (id(weight) in inner) is (".layers." in name and "norm" not in name), name
    assert isinstance(adamw, torch.optim.AdamW)


def test_reference_sgd_is_plain(random_base: Path) -> None:
    """No momentum: a step is the rate times the gradient, and a checkpoint keeps no state."""
    model, [sgd] = built(random_base, "optimizer=sgd", "learning_rate=0.5")
    weight = next(weight for weight in model.parameters() if weight.requires_grad)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        before, gradient = weight.detach().clone(), weight.grad.clone()
        sgd.step()
        sgd.zero_grad()
        torch.testing.assert_close(weight, before - 0.5 * gradient)
    assert all(value is None for state in sgd.state_dict()["state"].values() for value in state.values())


def test_weight_decay_of_adamw_is_exactly_a_factor(random_base: Path) -> None:
    model, [adamw] = built(random_base, "optimizer=adamw", "learning_rate=0.1", "weight_decay=0.5")
    weight = next(weight for weight in model.parameters() if weight.requires_grad)
    with torch.no_grad():
        weight.fill_(2.0)
    weight.grad = torch.zeros_like(weight)
    adamw.step()
    torch.testing.assert_close(weight, torch.full_like(weight, 2.0 * (1 - 0.1 * 0.5)))


def test_a_label_head_has_a_rate_of_its_own_and_its_biases_no_decay(random_base: Path) -> None:
    model, _ = built(random_base)
    settings = load_config("smoke", ["learning_rate=1e-2", "head_learning_rate=3e-3", "head_weight_decay=0.1"])
    head = LabelHead(64, 9)
    [adamw] = make_optimizers(settings, model, head)
    set_rate(adamw, 0.5e-2)  # half of the highest
    held = {id(w): (group["lr"], group["weight_decay"]) for group in adamw.param_groups for w in group["params"]}
    assert len(held) == sum(1 for w in (*model.parameters(), *head.parameters()) if w.requires_grad)
    for weight in (weight for weight in model.parameters() if weight.requires_grad):
        assert held[id(weight)] == (0.5e-2, 0)
    for name, weight in head.named_parameters():
        decay = 0 if name in ("bias", "norm.weight", "norm.bias") else 0.1
        assert held[id(weight)] == (pytest.approx(1.5e-3), decay), name


def test_a_label_head_without_a_rate_takes_the_adapters(random_base: Path) -> None:
    model, _ = built(random_base)
    [sgd] = make_optimizers(load_config("smoke", ["optimizer=sgd"]), model, LabelHead(64, 9))
    set_rate(sgd, 0.25)
    assert {group["lr"] for group in sgd.param_groups} == {0.25}


@pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
def test_paged_adamw_learns_and_goes_on_from_its_saved_state(random_base: Path, tmp_path: Path) -> None:
    ends = []
    for stop in (True, False):
        model, [optimizer] = built(random_base, "method=lora", "optimizer=paged-adamw-8bit")
        for done in range(4):
            if stop and done == 2:
                torch.save(optimizer.state_dict(), tmp_path / "state.pt")
                [optimizer] = make_optimizers(
                    load_config("smoke", ["method=lora", "optimizer=paged-adamw-8bit"]), model
                )
                optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
            model(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append([weight.detach().clone() for weight in model.parameters() if weight.requires_grad])
    assert all(torch.equal(stopped, whole) for stopped, whole in zip(*ends, strict=True))
    assert any(weight.abs().max() > 0 for weight in ends[0])
