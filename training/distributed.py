"""The processes of a run, as torchrun or accelerate launch starts them; one where nobody does.

Each has the same rows in the same order and learns from its share of every batch (`data.deal`); losses and
gradients are sums over all, divided once by all targets, so that the number of processes does not change the result.
The first process writes; the others wait.

Under `ddp` each process holds the whole model. Under `fsdp` (FSDP2) the weights are spread over all, but an
adapter, small as it is, stays whole on each: it is saved, checked and measured as in a run of one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from accelerate import PartialState
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from etl.errors import ConfigError
from training.loss import LabelLoss, ResponseLoss, causal_model

Made = TypeVar("Made")

_ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def is_first() -> bool:
    """Return whether this is the first process, or the only one, before the processes know each other."""
    return os.environ.get("RANK", "0") == "0"


def once(make: Callable[[], Made]) -> Made:
    """Let one process of each machine make something, as if it were alone; the others then find it made."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return make()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        with _alone():
            make()
    PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
    return make()


@contextmanager
def _alone() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in _ENVIRONMENT if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
        PartialState._reset_state()


def leave() -> None:
    """Say good-bye to the other processes; without it NCCL complains at the end."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Processes:
    """This process among those of the run.

    Attributes:
        count: how many there are.
        index: which of them this is, from 0.
    """

    def __init__(self, sharding: Literal["ddp", "fsdp"]) -> None:
        _refuse_other_wishes(sharding)
        self._state = PartialState(cpu=not torch.cuda.is_available())
        self.count: int = self._state.num_processes
        self.index: int = self._state.process_index
        self._sharding = sharding if self.count > 1 else "none"
        self._parts: list[FSDPModule] = []
        self._whole: list[nn.Parameter] = []
        """What learns and is whole on each process without DDP's knowledge: its gradients are summed here."""

    @property
    def sharded(self) -> bool:
        """Whether the weights are spread over the processes."""
        return self._sharding == "fsdp"

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.index == 0

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Let the first process go through the block before the others do."""
        with self._state.main_process_first():
            yield

    def wait(self) -> None:
        """Wait until all are here."""
        self._state.wait_for_everyone()

    def spread(self, module: ResponseLoss | LabelLoss) -> nn.Module:
        """Return the loss module as all processes share it; what learns may be other tensors than before."""
        if self._sharding == "ddp":
            return DistributedDataParallel(module, gradient_as_bucket_view=True)
        if self._sharding == "fsdp":
            adapters = {name: weight for name, weight in module.named_parameters() if ".lora_" in name}
            self._whole = [weight for weight in adapters.values() if weight.requires_grad]
            for weight in adapters.values():
                weight.data = weight.data.to(self._state.device)  # the others are moved as they are spread
            parts = (*causal_model(module.model).model.layers, module)
            self._parts = [fully_shard(part, ignored_params=set(adapters.values())) for part in parts]
        return module

    @contextmanager
    def accumulating(self, module: nn.Module, *, last: bool) -> Iterator[None]:
        """Within, a backward pass adds to the gradients of this process; with the last, DDP averages them over all."""
        with module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext():
            yield

    def average_gradients(self) -> None:
        """Average, after the last backward pass, the gradients that no wrapper knows of."""
        gradients = [weight.grad for weight in self._whole if weight.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, *values: float) -> list[float]:
        """Return each value summed over the processes, the same bits on all."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._state.device)
        dist.all_reduce(total)
        summed: list[float] = total.tolist()
        return summed

    @contextmanager
    def gathered(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[None]:
        """Let model and optimisers give their whole state within the block; all processes must enter it."""
        hooks: list[Any] = []
        if self._sharding == "fsdp":
            for part in self._parts:
                part.reshard()  # reading the state does so on the first process alone, and they would lose step
            weights = self._gather_weights(model)
            hooks.append(model.register_state_dict_post_hook(lambda module, state, *rest: state.update(weights)))
            for optimizer in optimizers:
                whole = self._gather_state(optimizer.state_dict())
                hooks.append(optimizer.register_state_dict_post_hook(partial(_instead, whole)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _gather_weights(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return what learns and is spread, whole, by name; a tied weight is one tensor under both its names."""
        named = model.named_parameters(remove_duplicate=False)
        spread = [(name, weight) for name, weight in named if isinstance(weight, DTensor) and weight.requires_grad]
        whole = {weight: self._gather(weight) for _, weight in spread}
        return {name: whole[weight] for name, weight in spread} if self.first else {}

    def _gather_state(self, state: dict[str, Any]) -> dict[str, Any]:
        moments = {
            index: {name: self._gather(value) for name, value in of_weight.items()}
            for index, of_weight in state["state"].items()
        }
        return {**state, "state": moments}

    @torch.no_grad()
    def _gather(self, value: Any) -> Any:
        """Return a tensor whole, on the CPU; of one that is spread, the other processes keep nothing."""
        if not isinstance(value, DTensor):
            return value
        whole = value.full_tensor()
        return whole.cpu() if self.first else torch.empty(0)

    @contextmanager
    def scattering(self, optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[None]:
        """Let optimisers take, within the block, the whole state that `gathered` let them give."""
        hooks = [optimizer.register_load_state_dict_pre_hook(_scatter_state) for optimizer in optimizers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _instead(whole: dict[str, Any], optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    return whole


def _scatter_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        index: {name: _scatter(value, weights[index]) for name, value in of_weight.items()}
        for index, of_weight in state["state"].items()
    }
    return {**state, "state": moments}


def _scatter(value: Any, weight: torch.Tensor) -> Any:
    if not isinstance(weight, DTensor) or not isinstance(value, torch.Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


def _refuse_other_wishes(sharding: str) -> None:
    """See that accelerate's own config does not ask for what the run's does not."""
    asked = {name: os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("FSDP", "DEEPSPEED")}
    other = [name for name, wanted in asked.items() if wanted and name.lower() != sharding]
    if other:
        raise ConfigError(
            f"accelerate's config asks for {' and '.join(other)} and the run's for sharding={sharding}; "
            "choose --multi_gpu there and, to spread the weights, sharding=fsdp here"
        )
