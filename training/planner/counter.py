"""Watches a step run and writes down its timeline; on the meta device nothing is computed and nothing allocated.

Counted are the storages of tensors, by their own size: not what an allocator adds to round them up, nor what a
kernel asks for and returns within one operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from training.planner.timeline import KINDS, Timeline

_ACTIVATIONS, _LOGITS, _GRADIENTS = range(len(KINDS))
_aten = torch.ops.aten
_LOSS = (_aten.nll_loss_forward.default, _aten.nll_loss_backward.default)
_CAUSAL = (_aten._scaled_dot_product_flash_attention, _aten._scaled_dot_product_flash_attention_backward)


class Counter(TorchDispatchMode):
    """Writes down the storages born and freed, and the FLOPs, of what runs inside the block.

    Args:
        model: whose weights, and the gradients that stand, are there already and so not counted.
        vocabulary: entries; a tensor whose last dimension this is holds logits.
    """

    def __init__(self, model: nn.Module, vocabulary: int) -> None:
        super().__init__()
        self.marks: list[tuple[int, int]] = []
        """Where a layer begins, forward or backward: (event, layer)."""
        self._vocabulary = vocabulary
        there = [*model.parameters(), *model.buffers()]
        there += [weight.grad for weight in model.parameters() if weight.grad is not None]
        self._alive = {tensor.untyped_storage()._cdata: -1 for tensor in there}
        self._kinds: list[int] = []  # by storage, in the order of birth
        self._events: list[tuple[int, int, int]] = []  # storage or -1, bytes, flops

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if op in _LOSS and args[0].is_meta:  # the labels alone are real, see `trace`
            args = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), args)
        result = op(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._seen(leaf)
        formula = flop_registry.get(op.overloadpacket)
        if formula:
            flops = formula(*args, **kwargs, out_val=result)
            # A causal kernel skips the half of the square that nobody attends to.
            self._events.append((-1, 0, flops // 2 if op.overloadpacket in _CAUSAL else flops))
        return result

    def _seen(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._alive:
            return
        number = len(self._kinds)
        self._kinds.append(_LOGITS if tensor.shape[-1:] == (self._vocabulary,) else _ACTIVATIONS)
        self._alive[storage._cdata] = number
        self._events.append((number, storage.nbytes(), 0))
        weakref.finalize(storage, self._died, storage._cdata, storage.nbytes()).atexit = False

    def _died(self, key: int, size: int) -> None:
        self._events.append((self._alive.pop(key), -size, 0))

    def gradients_of(self, model: nn.Module) -> None:
        """Note which storages hold the gradients that stand now."""
        for weight in model.parameters():
            number = -1 if weight.grad is None else self._alive.get(weight.grad.untyped_storage()._cdata, -1)
            if number >= 0:
                self._kinds[number] = _GRADIENTS

    def watch(self, layers: Sequence[nn.Module]) -> list[Any]:
        """Mark where each layer begins, forward and backward; return the handles that end it."""
        handles = []
        for number, layer in enumerate(layers):
            handles.append(layer.register_forward_pre_hook(partial(self._mark, number)))
            handles.append(layer.register_forward_hook(partial(self._mark_backward, number)))
        return handles

    def _mark(self, number: int, *_: Any) -> None:
        self.marks.append((len(self._events), number))

    def _mark_backward(self, number: int, layer: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(partial(self._mark, number))

    def timeline(self) -> Timeline:
        """Return what was counted so far."""
        events = np.array(self._events, dtype=np.int64).reshape(-1, 3)
        kinds = np.array([*self._kinds, _ACTIVATIONS], dtype=np.int8)[events[:, 0]]
        return Timeline(events[:, 1], kinds, events[:, 2])
