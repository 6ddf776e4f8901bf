"""One optimiser step: gradients of all micro-batches on all processes, one update, and what the log keeps of it."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from etl.errors import ConfigError
from training.config import TrainConfig
from training.data import Row, as_learned
from training.distributed import Processes
from training.fa_lora import whole
from training.feed import Feed
from training.methods import GradientCorrection
from training.optimisers import learning_rate, set_rate
from training.questions import Question, with_dropout


class NotFiniteError(ConfigError):
    """A loss or a gradient is no number."""


class Stepper:
    """A model that learns, as one process has it."""

    def __init__(
        self,
        config: TrainConfig,
        loss_module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        correction: GradientCorrection,
        feed: Feed,
        processes: Processes,
    ) -> None:
        self._config, self._feed, self._processes = config, feed, processes
        self._loss_module, self._optimizers, self._correction = loss_module.train(), optimizers, correction
        self._learning = [weight for weight in loss_module.parameters() if weight.requires_grad]

    def step(self, step: int, steps: int, rows: Sequence[Row]) -> dict[str, Any]:
        """Take step 1, 2, … `steps` with a batch of rows; return what the log keeps of it.

        Under objective labels its `response_tokens` are the drugs that were told from each other, rows times
        formulary: whatever the loss is a mean over.

        Raises:
            NotFiniteError: the loss or the gradient; nothing was learned from the batch.
            ConfigError: out of memory; which settings need less.
        """
        began = time.perf_counter()
        rows = self._as_learned(step, rows)
        targets = sum(row.targets for row in rows)
        rate = learning_rate(self._config, step, steps)
        with memory_advice(self._config, f"step {step}"):
            loss_sum, padded = self._backward(rows, targets)
            if not math.isfinite(loss_sum):
                raise NotFiniteError("the loss is not finite")
            norm = self._update(rate)
        return {
            "loss": loss_sum / targets,
            "learning_rate": rate,
            "grad_norm": norm,
            "response_tokens": targets,
            "tokens": sum(len(row.input_ids) for row in rows),
            "padded_tokens": int(padded),
            "seconds": round(time.perf_counter() - began, 4),
            "peak_memory_bytes": peak_memory_bytes(self._feed.device),
        }

    def _as_learned(self, step: int, rows: Sequence[Any]) -> Sequence[Row]:
        if isinstance(rows[0], Question):
            return with_dropout(rows, self._config.seed, step)
        return [as_learned(row, self._config.loss_on) for row in rows]

    def _backward(self, rows: Sequence[Row], targets: int) -> list[float]:
        """Leave the gradient of the mean loss; return the summed loss and the tokens with padding.

        Divided by the targets of all micro-batches on all processes, known before the first: a mean of their means
        would weigh a target by its company.
        """
        losses, padded, batches = [], 0, list(self._feed(rows))
        for place, (input_ids, learned, where) in enumerate(batches, 1):
            with self._processes.accumulating(self._loss_module, last=place == len(batches)):
                loss = self._loss_module(input_ids, learned, **where)
                (loss * (self._processes.count / targets)).backward()  # processes are averaged: their number cancels
            losses.append(loss.detach())
            padded += input_ids.numel()
        self._processes.average_gradients()
        return self._processes.sum(float(torch.stack(losses).sum()), padded)

    def _update(self, rate: float) -> float:
        """Move what learns against its gradient; return the gradient's norm before clipping."""
        self._correction.apply()
        norm = whole(nn.utils.get_total_norm([weight.grad for weight in self._learning if weight.grad is not None]))
        if not math.isfinite(value := float(norm)):
            raise NotFiniteError("the gradient is not finite")
        if self._config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._learning, self._config.clip_norm, norm)
        for optimizer in self._optimizers:
            set_rate(optimizer, rate)
            optimizer.step()
            optimizer.zero_grad()
        return value

    @torch.no_grad()
    def validation_loss(self, rows: Sequence[Row]) -> float | None:
        """Return the mean loss per response token, whatever training learns from, or per drug; None without a row."""
        if not rows:
            return None
        self._loss_module.eval()
        rows, size = sorted(rows, key=lambda row: len(row.input_ids)), self._config.batch_size
        total = 0.0
        with memory_advice(self._config, "validation"):
            for start in range(0, len(rows), size):
                for input_ids, learned, where in self._feed(rows[start : start + size]):
                    total += float(self._loss_module(input_ids, learned, **where))
        self._loss_module.train()
        [total] = self._processes.sum(total)
        if not math.isfinite(total):
            raise ConfigError("the validation loss is not finite; lower learning_rate or set clip_norm")
        return total / sum(row.targets for row in rows)


@contextmanager
def memory_advice(config: TrainConfig, where: str) -> Iterator[None]:
    """Turn an allocation that failed into a line that says which settings need less.

    Raises:
        ConfigError: instead of the allocator's own error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        cures = [f"lower micro_batch_size (now {config.micro_batch_size or 'the whole share'})"]
        cures += [] if config.gradient_checkpointing else ["set gradient_checkpointing=true"]
        raise ConfigError(
            f"out of memory in {where}: {', or '.join(cures)}, and the run goes on; "
            f"or begin another with a lower max_length (now {config.max_length})"
        ) from None


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory this process has held: on its GPU, or resident where it learns on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
