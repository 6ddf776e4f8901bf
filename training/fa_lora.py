"""FA-LoRA: LoRA whose random A is frozen; only B learns.

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
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from etl.errors import RxdraftError

LARGEST_RANK = 256
"""A is drawn at this rank and cut, so that a smaller rank's A is the first rows of a larger one's."""


class TrainingStateError(RxdraftError):
    """Something learns that should not, or the other way round; training would not be FA-LoRA."""


def add_fa_lora(
    model: nn.Module, rank: int, alpha: float, targets: tuple[str, ...], a_seed: int, adapter: str = "default"
) -> PeftModel:
    """Wrap a base model with a fresh FA-LoRA adapter: A drawn and frozen, B zero and learning.

    Raises:
        TrainingStateError: the targets name no layer, or the freeze did not take.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"
    )
    peft_model = get_peft_model(model, config, adapter_name=adapter)
    seed_lora_a(peft_model, a_seed, adapter)
    freeze_lora_a(peft_model, adapter)
    check_only_b_trains(peft_model, adapter)
    return peft_model


def lora_layers(model: nn.Module, adapter: str = "default") -> Iterator[tuple[str, LoraLayer]]:
    """Yield the layers that own this adapter, with their names in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and adapter in module.lora_A:
            yield name.removeprefix("base_model.model."), module


@torch.no_grad()
def seed_lora_a(model: nn.Module, seed: int, adapter: str = "default") -> None:
    """Draw every A, (rank, in_features), anew: uniform in ±1/sqrt(in_features), as PEFT's default is.

    Each layer has a generator of its own, seeded by its name, on the CPU: the same A on every device and for
    every choice of other layers, and at rank 16 the first 16 rows of rank 32's.
    """
    for name, layer in lora_layers(model, adapter):
        weight = layer.lora_A[adapter].weight
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


def check_only_b_trains(model: nn.Module, adapter: str = "default") -> None:
    """Raise unless exactly this adapter's B matrices require a gradient.

    Raises:
        TrainingStateError: how many parameters are wrong, and the first of them.
    """
    ours = f".lora_B.{adapter}."
    wrong = [name for name, weight in model.named_parameters() if weight.requires_grad is not (ours in name)]
    if wrong:
        raise TrainingStateError(
            f"{len(wrong)} parameters learn that should not, or should and do not; first {wrong[0]}"
        )
    if not any(ours in name for name, _ in model.named_parameters()):
        raise TrainingStateError(f"the model has no B matrix of adapter {adapter}; do the targets name its layers?")


def lora_a(model: nn.Module, adapter: str = "default") -> dict[str, torch.Tensor]:
    """Return a copy of every A, by layer."""
    return {name: layer.lora_A[adapter].weight.detach().clone() for name, layer in lora_layers(model, adapter)}


@torch.no_grad()
def update_norm(model: nn.Module, adapter: str = "default") -> float:
    """Return |ΔW|, the Frobenius norm of scaling · B A over all layers: how far training moved the model."""
    total = 0.0
    for _, layer in lora_layers(model, adapter):
        a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
        # |BA|² = trace((BᵀB)(AAᵀ)), rank x rank instead of out x in
        total += layer.scaling[adapter] ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
    return math.sqrt(max(total, 0.0))


def count_trainable(model: nn.Module) -> int:
    """Return how many parameters learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
