"""What a run's steps need of a GPU, for any micro batch, from the base's configuration alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from etl.errors import ConfigError
from training.config import TrainConfig
from training.methods import count_trainable
from training.planner import four_bit
from training.planner.optimiser import optimiser_bytes
from training.planner.timeline import Timeline, for_batch
from training.planner.trace import build, set_checkpointing, trace


@dataclass(frozen=True, slots=True)
class Work:
    """What is in memory at once."""

    batch: int
    """Rows."""
    length: int
    """Tokens of the longest row, to which the others are padded."""
    labelled: int
    """Tokens to learn of each row, whose logits are made."""
    checkpointing: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the highest moment of a step, by part."""

    weights: int
    adapters: int
    optimiser: int
    gradients: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(asdict(self).values())


class Planner:
    """A base with what the method lets learn, without weights.

    Args:
        base: the base's configuration, as transformers has it.
        config: of the run.
        rank: of the adapter; ignored by method full.

    Raises:
        ConfigError: the config is of another objective than is counted here.
    """

    def __init__(self, base: Any, config: TrainConfig, rank: int) -> None:
        if config.objective == "labels":
            raise ConfigError(
                "plan counts runs of objective list; take --set objective=list for all but the label head, which adds "
                "16 bytes to each of its hidden_size x (hidden_size + 4 x drugs) weights under adamw"
            )
        self.config = config
        self.rank = 0 if config.method == "full" else rank
        self.model = build(base, config, self.rank)
        self._timelines: dict[tuple[Any, ...], Timeline] = {}

    @cached_property
    def parameters(self) -> int:
        """How many there are, adapters included."""
        return four_bit.count(self.model)

    @cached_property
    def trainable(self) -> int:
        """How many of them learn."""
        return count_trainable(self.model)

    @cached_property
    def _there(self) -> dict[str, int]:
        """Bytes that are there before a step begins."""
        weights = dict(self.model.named_parameters())
        adapters = sum(weight.nbytes for name, weight in weights.items() if ".lora_" in name)
        every = sum(tensor.nbytes for tensor in (*weights.values(), *self.model.buffers()))
        return {"weights": every - adapters, "adapters": adapters}

    @cached_property
    def _optimiser(self) -> tuple[int, int]:
        return optimiser_bytes(self.model, self.config)

    def memory(self, work: Work) -> Memory:
        """Return the peak of a step: within its passes, or as the optimiser moves the weights."""
        kept, most = self._optimiser
        accumulates = work.batch < self.config.batch_size
        within = Memory(**self._there, optimiser=kept, **self._timeline(work, 2 if accumulates else 1).peak())
        gradients = sum(weight.nbytes for weight in self.model.parameters() if weight.requires_grad)
        moving = Memory(**self._there, optimiser=kept + most, gradients=gradients, activations=0, logits=0)
        return max(within, moving, key=lambda memory: memory.total)

    def flops(self, work: Work) -> int:
        """Return what a pass over a batch computes, forward, backward, and what checkpointing computes again."""
        return int(self._timeline(work, 1).flops.sum())

    def _timeline(self, work: Work, passes: int) -> Timeline:
        two, three = (self._traced(batch, work, passes) for batch in (2, 3))
        return for_batch(two, three, work.batch)

    def _traced(self, batch: int, work: Work, passes: int) -> Timeline:
        key = (batch, work.length, work.labelled, work.checkpointing, passes)
        if key not in self._timelines:
            set_checkpointing(self.model, on=work.checkpointing)
            self._timelines[key] = trace(self.model, batch, work.length, work.labelled, passes)
        return self._timelines[key]
