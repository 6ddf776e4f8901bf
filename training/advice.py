"""What whoever trains should know: measured reasons, a line each. Nothing here stops a run."""

from __future__ import annotations

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import nn

from training.base import resolve_dtype
from training.config import TrainConfig
from training.fa_lora import lora_layers, whole
from training.methods import update_norm

STANDS_STILL = 1e-3
"""|ΔW| / |W| below which a checkpoint is hardly another model than its base."""


def on_config(config: TrainConfig) -> list[str]:
    """Return what the results of a config will not show, or what it cannot do."""
    said = []
    if is_confounded(config):
        low, high = min(config.ranks), max(config.ranks)
        said.append(
            f"ranks at a fixed alpha under sgd differ in step size: a step goes as alpha²/rank, {high / low:.3g} times "
            f"as far at rank {low} as at rank {high} (16 against 32, measured: the loss falls 1.9 times as far); "
            "scaling=rslora compares ranks alone"
        )
    if config.method == "full" and resolve_dtype(config.dtype) == torch.bfloat16:
        said.append(
            "method full in bfloat16 loses to rounding any step below about 0.3 % of a weight; dtype=float32 keeps it"
        )
    return said


def is_confounded(config: TrainConfig) -> bool:
    """Return whether the ranks of a config are compared by the size of their steps."""
    return len(config.ranks) > 1 and rank_sets_step(config.method, config.optimizer, config.scaling)


def rank_sets_step(method: str, optimizer: str, scaling: str) -> bool:
    """Return whether another rank takes steps of another size; the arguments are as `TrainConfig` has them.

    Not under rslora, nor under lora-fa, whose correction takes the scaling out, nor under AdamW, which sets the size
    of a step itself.
    """
    return optimizer == "sgd" and scaling == "alpha" and method not in ("lora-fa", "full")


def on_update(model: nn.Module, step: int) -> str | None:
    """Return what to say of an adapter that hardly moved its base; None where it did, or there is none."""
    if not any(lora_layers(model)):
        return None
    share = update_norm(model) / base_norm(model)
    if share >= STANDS_STILL:
        return None
    return (
        f"after {step} steps |ΔW| is {share:.2g} of |W|: the adapter hardly differs from its base; "
        "a higher learning_rate or optimizer adamw moves B"
    )


@torch.no_grad()
def base_norm(model: nn.Module, adapter: str = "default") -> float:
    """Return |W|, the Frobenius norm of all weights that have this adapter, 4-bit ones as they calculate."""
    weights = [dequantize_module_weight(layer.get_base_layer()) for _, layer in lora_layers(model, adapter)]
    return float(torch.stack([whole(weight.float().norm()) for weight in weights]).norm())
