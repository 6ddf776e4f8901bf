"""What an optimiser keeps between steps, and what it asks for within one."""

from __future__ import annotations

import torch
from torch import nn

from training.config import TrainConfig
from training.optimisers import make_optimizers
from training.planner.counter import Counter

_BLOCK, _SMALLEST = 256, 4096


def optimiser_bytes(model: nn.Module, config: TrainConfig) -> tuple[int, int]:
    """Take two steps of the run's optimisers, on the meta device, with gradients of nothing.

    Returns:
        Bytes kept, and the most that a step asks for on top.
    """
    if config.optimizer == "paged-adamw-8bit":
        return _eight_bit_bytes(model), 0
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight) if weight.requires_grad else None
    optimizers = make_optimizers(config, model)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups if "foreach" in group):
        group["foreach"] = True  # torch's choice on CUDA: all weights at once, so that the temporaries add up
    counter = Counter(model, vocabulary=0)
    with counter:
        for optimizer in optimizers:
            optimizer.step()
        kept = int(counter.timeline().bytes.sum())
        for optimizer in optimizers:
            optimizer.step()
        most = sum(counter.timeline().peak().values())
    model.zero_grad()
    return kept, most - kept


def _eight_bit_bytes(model: nn.Module) -> int:
    """Return what bitsandbytes keeps: two bytes a weight with two scales a block, or floats for what is small.

    Embeddings keep floats too. Pages count in full, though the driver moves them off the GPU where room is short.

    Source: Dettmers et al., arXiv 2110.02861, sections 2 and 3.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    total = 0
    for weight in (weight for weight in model.parameters() if weight.requires_grad):
        count = weight.numel()
        floats = count < _SMALLEST or id(weight) in embeddings
        total += 8 * count if floats else 2 * count + 2 * 4 * -(-count // _BLOCK)
    return total
