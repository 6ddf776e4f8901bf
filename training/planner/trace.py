"""Build a model without weights, and take a training step with it that only counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AutoModelForCausalLM

from training import methods
from training.base import resolve_dtype
from training.config import TrainConfig
from training.data import IGNORED
from training.loss import ResponseLoss, causal_model
from training.planner import four_bit
from training.planner.counter import Counter
from training.planner.timeline import Timeline, stretch

ATTENTION = "rxdraft_plan"
SHALLOW = 4
"""Layers that stand for all: a first, a last, and two inner ones that must do the same."""


def _flash_shape(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **settings: Any
) -> tuple[torch.Tensor, None]:
    """Attend through torch's flash kernel, which keeps query, key, value, output and a sum a row for backward.

    By name, since on the meta device the general attention takes the slow kernel. FlashAttention-2 keeps the same.
    """
    scale = settings.get("scaling")
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    attended = kernel(query, key, value, 0.0, True, False, scale=scale)[0]  # (batch, heads, tokens, head_dim)
    return attended.transpose(1, 2).contiguous(), None


def build(base: Any, config: TrainConfig, rank: int) -> nn.Module:
    """Return the model a run would train, without weights.

    Args:
        base: the base's configuration, as transformers has it.
        config: of the run; dtype auto means bfloat16, as on a GPU.
        rank: of the adapter; 0 for method full.
    """
    AttentionInterface.register(ATTENTION, _flash_shape)
    dtype = torch.bfloat16 if config.dtype == "auto" else resolve_dtype(config.dtype)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            deepcopy(base),
            dtype=dtype,
            attn_implementation=ATTENTION,  # which it writes into the configuration
        )
    if config.method == "qlora":
        four_bit.pack(model)
    return methods.attach(model, config, rank).train()


def set_checkpointing(model: nn.Module, *, on: bool) -> None:
    """Recompute activations in the backward pass, or keep them."""
    causal_lm = causal_model(model)
    if on and not causal_lm.is_activation_checkpointing:
        causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    if not on and causal_lm.is_activation_checkpointing:
        causal_lm.activation_checkpointing_disable()
        causal_lm.disable_input_require_grads()  # or the first layer would keep what a run without does not


def trace(
    model: nn.Module, batch: int, length: int, labelled: int, passes: int = 1, *, whole: bool = False
) -> Timeline:
    """Return the timeline of forward and backward passes: weights and what an optimiser keeps are there already.

    Args:
        model: on the meta device; elsewhere it really calculates.
        batch: rows.
        length: tokens a row.
        labelled: the last tokens of each row, to be learned.
        passes: over one batch each; from the second on the gradients are there already.
        whole: through every layer; else, on the meta device, through a few that stand for all.
    """
    layers = causal_model(model).model.layers
    depth = len(layers)
    if whole or depth <= SHALLOW or not next(model.parameters()).is_meta:
        return _count(model, batch, length, labelled, passes)[0]
    with _cut(model, SHALLOW):
        found = stretch(*_count(model, batch, length, labelled, passes), SHALLOW, depth)
    return found or _count(model, batch, length, labelled, passes)[0]


def take_pass(model: nn.Module, batch: int, length: int, labelled: int) -> None:
    """Go forward and backward once, over made-up tokens."""
    device = next(model.parameters()).device
    input_ids = torch.zeros(batch, length, dtype=torch.long, device=device)
    # Real also where the model is not: how many labels are kept decides the logits' shape.
    labels = torch.full((batch, length), IGNORED, device="cpu" if device.type == "meta" else device)
    labels[:, length - labelled :] = 1
    (ResponseLoss(model)(input_ids, labels) / (batch * labelled)).backward()


def _count(
    model: nn.Module, batch: int, length: int, labelled: int, passes: int
) -> tuple[Timeline, list[tuple[int, int]]]:
    """Return the timeline, and where in it a layer begins, as `stretch` takes it."""
    causal_lm = causal_model(model)
    counter = Counter(model, causal_lm.config.vocab_size)
    handles = counter.watch(causal_lm.model.layers)
    try:
        with counter:
            for _ in range(passes):
                take_pass(model, batch, length, labelled)
                counter.gradients_of(model)
        return counter.timeline(), counter.marks
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad()


@contextmanager
def _cut(model: nn.Module, layers: int) -> Iterator[None]:
    """Leave a model its first layers for a while."""
    inner = causal_model(model).model
    every = inner.layers
    inner.layers = every[:layers]
    try:
        yield
    finally:
        inner.layers = every
