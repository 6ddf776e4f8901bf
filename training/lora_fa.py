"""LoRA-FA's correction: with A frozen, the gradient of B that comes nearest to a step of full fine-tuning.

B's gradient g becomes g P with P = (A Aᵀ)⁻¹ / scaling². A never changes, so P is worked out once for each layer,
and any optimiser takes the step. For a wide random A, A Aᵀ is nearly a multiple of the identity: under AdamW, which
cancels a factor, the correction is then hardly felt, and under SGD it is above all a larger rate.

Source: Zhang et al., LoRA-FA, arXiv 2308.03303.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from etl.errors import ConfigError
from training.fa_lora import lora_layers


@torch.no_grad()
def gradient_projection(a: torch.Tensor, scaling: float) -> torch.Tensor:
    """Return P = (A Aᵀ)⁻¹ / scaling².

    Args:
        a: the frozen A, (rank, in_features).
        scaling: what the layer multiplies its update by; positive.

    Returns:
        P, (rank, rank), float32 on A's device.

    Raises:
        ConfigError: rank exceeds in_features, so A Aᵀ has no inverse; both are named.
    """
    rank, in_features = a.shape
    if rank > in_features:
        raise ConfigError(f"rank {rank} exceeds a layer's {in_features} inputs; method lora-fa wants a smaller rank")
    a = a.double()
    return (torch.linalg.inv(a @ a.T) / scaling**2).float()


class Correction:
    """The projections of all layers, and the multiplication by them."""

    def __init__(self, model: nn.Module, adapter: str = "default") -> None:
        self._projected: list[tuple[Any, torch.Tensor]] = [
            (layer.lora_B[adapter], gradient_projection(layer.lora_A[adapter].weight, layer.scaling[adapter]))
            for _, layer in lora_layers(model, adapter)
        ]

    @torch.no_grad()
    def apply(self) -> None:
        """Multiply B's gradients, (out_features, rank), from the right."""
        for b, projection in self._projected:
            if b.weight.grad is not None:
                b.weight.grad.copy_(b.weight.grad.float() @ projection)
