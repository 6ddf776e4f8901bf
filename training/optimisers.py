"""Which optimiser moves which matrix, and how fast at which step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from training.config import TrainConfig


def make_optimizers(
    config: TrainConfig, model: nn.Module, head: nn.Module | None = None
) -> list[torch.optim.Optimizer]:
    """Return the optimisers that share what learns, a label head included; `set_rate` sets the rate of a step."""
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    groups = [{"params": list(learning.values())}, *(_head_groups(config, head) if head else ())]
    if config.optimizer == "sgd":
        return [torch.optim.SGD(groups, **settings)]
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(groups, **settings)]
    if config.optimizer == "paged-adamw-8bit":
        return [_paged_adamw(model, groups, settings)]
    inner = [weight for name, weight in learning.items() if ".layers." in name and weight.ndim == 2]
    rest = [weight for weight in learning.values() if all(weight is not other for other in inner)]
    # match_rms_adamw: an update as large as AdamW's, so that one rate suits both.
    return [
        torch.optim.Muon(inner, adjust_lr_fn="match_rms_adamw", **settings),
        torch.optim.AdamW(rest, **settings),
    ]


def _head_groups(config: TrainConfig, head: nn.Module) -> list[dict[str, Any]]:
    """Return a label head's matrices, and its biases and norm, which know no decay."""
    factor = (config.head_learning_rate or config.learning_rate) / config.learning_rate
    matrices = [weight for weight in head.parameters() if weight.ndim > 1]
    rest = [weight for weight in head.parameters() if weight.ndim == 1]
    return [
        {"params": matrices, "rate_factor": factor, "weight_decay": config.head_weight_decay},
        {"params": rest, "rate_factor": factor, "weight_decay": 0.0},
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate of a step, times the group's own factor if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


def _paged_adamw(model: nn.Module, groups: list[dict[str, Any]], settings: dict[str, Any]) -> torch.optim.Optimizer:
    """Return AdamW with its state in 8 bits, in memory that the driver moves off the GPU where room is short.

    Source: Dettmers et al., arXiv 2305.14314 (pages) and 2110.02861 (8 bits; embeddings keep 32).
    """
    from bitsandbytes.optim import GlobalOptimManager, PagedAdamW8bit

    for module in model.modules():
        if isinstance(module, nn.Embedding):
            GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
    optimizer: torch.optim.Optimizer = PagedAdamW8bit(groups, **settings)
    return optimizer


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of step 1, 2, … `steps`: warm-up from 0, then constant, or a line or half a cosine to 0."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    shapes = {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}
    return config.learning_rate * shapes[config.schedule]
