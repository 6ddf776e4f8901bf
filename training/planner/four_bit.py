"""A linear layer that takes the memory of bitsandbytes' NF4 layer, for the meta device; it calculates nothing.

Stored are two weights a byte, a scale of 8 bits for each 64 weights, and one of 32 bits for each 256 of those. Both
directions unpack the weights first and free them after; the input is not kept, since the weights do not learn.

Source: Dettmers et al., QLoRA, arXiv 2305.14314, section 3; bitsandbytes' `MatMul4Bit`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_BLOCK, _OUTER_BLOCK = 64, 256


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, packed: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        ctx.shape = shape
        ctx.save_for_backward(packed)
        return x @ x.new_empty(shape).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] @ gradients[0].new_empty(ctx.shape), None, None


class FourBitLinear(nn.Linear):
    """Takes a linear layer's place."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        weights = layer.weight.numel()
        blocks = -(-weights // _BLOCK)
        self.weight = nn.Parameter(torch.empty(-(-weights // 2), 1, dtype=torch.uint8, device="meta"), False)
        self.register_buffer("scales", torch.empty(blocks, dtype=torch.uint8, device="meta"))
        self.register_buffer("outer_scales", torch.empty(-(-blocks // _OUTER_BLOCK), device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the product's shape, (…, out_features)."""
        product: torch.Tensor = _Product.apply(x, self.weight, (self.out_features, self.in_features))
        return product


def pack(model: Any) -> None:
    """Put 4-bit layers in the place of a base's linear layers, but for its head, as transformers loads it."""
    head = model.get_output_embeddings()
    linear = [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear and layer is not head]
    for name, layer in linear:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, FourBitLinear(layer))


def count(model: nn.Module) -> int:
    """Return how many parameters a model has, packed ones each for itself."""
    packed = [module for module in model.modules() if isinstance(module, FourBitLinear)]
    every = sum(weight.numel() for weight in model.parameters())
    return every + sum(layer.in_features * layer.out_features - layer.weight.numel() for layer in packed)
