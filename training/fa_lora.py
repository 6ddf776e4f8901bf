"""A of a LoRA adapter: drawn from a seed, and frozen for FA-LoRA so that only B learns.

PEFT has no option for it, and a plain `requires_grad_(False)` on A is undone by `set_adapter()`, by
`disable_adapter()` and by `enable_adapter_layers()`. What survives is PEFT's own per-layer table of frozen
weights; `tests/training/test_fa_lora.py` holds every one of those calls against it.

Source: Sun et al., Improving LoRA in privacy-preserving federated learning, arXiv 2403.12313.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.distributed.tensor import DTensor

from etl.errors import RxdraftError

LARGEST_RANK = 256
"""A is drawn at this rank and cut, so that a smaller rank's A is the first rows of a larger one's."""


class TrainingStateError(RxdraftError):
    """Something learns that should not, or the other way round; training would not be what its method says."""


def lora_layers(model: nn.Module, adapter: str = "default") -> Iterator[tuple[str, LoraLayer]]:
    """Yield the layers that own this adapter, with their names in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and adapter in module.lora_A:
            yield name.removeprefix("base_model.model."), module


def whole(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as one tensor, gathered where it is spread over processes: then all of them must call."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


@torch.no_grad()
def seed_lora_a(model: nn.Module, seed: int, adapter: str = "default") -> None:
    """Draw every A, (rank, in_features), anew: uniform in ±1/sqrt(in_features), as PEFT's default is.

    Each layer has a generator of its own, seeded by its name, on the CPU: the same A on every device and for
    every choice of other layers, and at rank 16 the first 16 rows of rank 32's.
    """
    for name, layer in lora_layers(model, adapter):
        weight = layer.lora_A[adapter].weight
        if weight.is_meta:  # a model that is only measured
            continue
        rank, in_features = weight.shape
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        bound = 1 / math.sqrt(in_features)
        drawn = torch.empty(max(rank, LARGEST_RANK), in_features).uniform_(-bound, bound, generator=generator)
        weight.copy_(drawn[:rank])


def freeze_lora_a(model: nn.Module, adapter: str = "default") -> None:
    """Freeze A in every layer so that it stays frozen when adapters are switched or disabled for a while."""
    for _, layer in lora_layers(model, adapter):
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, adapter: ("lora_A",)}
        layer._freeze_non_trainable_peft_weights(adapter)  # semi-private: hence the bound on peft's version


def lora_a(model: nn.Module, adapter: str = "default") -> dict[str, torch.Tensor]:
    """Return a copy of every A, by layer."""
    return {name: layer.lora_A[adapter].weight.detach().clone() for name, layer in lora_layers(model, adapter)}
