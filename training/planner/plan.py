"""The plan: memory by part, what fits which card, how long an epoch takes, and how far a rule of thumb is off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.config import TrainConfig, load_config, shipped_configs
from training.planner.gpus import SIZES_GB, Gpu
from training.planner.lengths import Lengths
from training.planner.planner import Planner, Work

GIB = 2**30
BATCHES = (1, 2, 4, 8, 16)
NO_PRESETS = ("labels", "tiny_base")
"""Shipped configs that are for the tiny base alone."""

_BITS = {"qlora": 4}


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no configuration tells."""

    gpu: Gpu | None
    mfu: float
    """Share of the datasheet's FLOPs a second that a run reaches, recomputation counted as work."""
    reserve_gib: float
    """For the CUDA context, kernels' workspaces and what the allocator leaves unused between tensors."""

    def fits(self, total: int, memory_gb: int) -> bool:
        """Return whether bytes at the peak fit a card of that size."""
        return total + self.reserve_gib * GIB <= memory_gb * 10**9


def rule_of_thumb(parameters: int, bits: int) -> int:
    """Return M = P x 4 bytes / (32 / Q) x 1.2, a rule made for serving, by which many choose a card for training."""
    return round(parameters * 4 / (32 / bits) * 1.2)


def work_of(config: TrainConfig, lengths: Lengths, batch: int | None = None) -> Work:
    """Return what a config puts in memory at once."""
    rows = batch or config.micro_batch_size or config.batch_size
    return Work(rows, lengths.longest, lengths.labelled(config), config.gradient_checkpointing)


def plan(planner: Planner, lengths: Lengths, assumed: Assumptions, batch: int | None = None) -> dict[str, Any]:
    """Plan one run.

    Args:
        planner: of the base and the config.
        lengths: of the samples.
        assumed: what no configuration tells.
        batch: rows in memory at once; None: the config's.
    """
    config = planner.config
    work = work_of(config, lengths, batch)
    memory = planner.memory(work)
    bits = _BITS.get(config.method, 32 if config.dtype == "float32" else 16)
    rule = rule_of_thumb(planner.parameters, bits)
    return {
        "method": config.method,
        "rank": planner.rank,
        "optimizer": config.optimizer,
        "parameters": planner.parameters,
        "trainable": planner.trainable,
        "work": asdict(work),
        "peak_bytes": {**asdict(memory), "total": memory.total},
        "smallest_gb": smallest_card(memory.total, assumed),
        "rule_of_thumb": {"bits": bits, "bytes": rule, "off": rule / memory.total - 1},
        "grid": grid(planner, lengths),
        "time": seconds(planner, work, lengths, assumed),
        "gpu": asdict(assumed.gpu) if assumed.gpu else None,
        "reserve_gib": assumed.reserve_gib,
    }


def smallest_card(total: int, assumed: Assumptions) -> int | None:
    """Return the smallest of the usual sizes, in GB, that holds a peak; None: not even the largest."""
    return next((size for size in SIZES_GB if assumed.fits(total, size)), None)


def grid(planner: Planner, lengths: Lengths) -> list[dict[str, Any]]:
    """Return the peak for every micro batch, with and without checkpointing, with logits of answers or of all."""
    cells = []
    for checkpointing in (False, True):
        for head, labelled in (("response", lengths.response), ("all", lengths.longest)):
            for batch in BATCHES:
                total = planner.memory(Work(batch, lengths.longest, labelled, checkpointing)).total
                cells.append({"batch": batch, "checkpointing": checkpointing, "head": head, "bytes": total})
    return cells


def largest(grid: list[dict[str, Any]], loss_on: str, assumed: Assumptions, memory_gb: int) -> dict[str, Any] | None:
    """Return the cell with most rows that fits, of two the one that recomputes nothing; None: none fits."""
    fitting = [cell for cell in grid if cell["head"] == loss_on and assumed.fits(cell["bytes"], memory_gb)]
    return max(fitting, key=lambda cell: (cell["batch"], not cell["checkpointing"]), default=None)


def seconds(planner: Planner, work: Work, lengths: Lengths, assumed: Assumptions) -> dict[str, Any]:
    """Return what a row computes on average and how long an epoch takes; None where nobody knows the speed.

    Not in it: unpacking 4-bit weights, padding, the optimiser's step, waiting for data.
    """
    mean = replace(work, batch=1, length=lengths.mean, labelled=min(work.labelled, lengths.mean))
    flops = planner.flops(mean)
    speed = assumed.gpu.bf16_tflops if assumed.gpu else None
    if planner.config.dtype == "float32":
        speed = None
    rate = speed * 1e12 * assumed.mfu if speed else None
    return {
        "flops_per_row": flops,
        "samples": lengths.samples,
        "mean_length": lengths.mean,
        "mfu": assumed.mfu,
        "tokens_per_second": rate * lengths.mean / flops if rate else None,
        "epoch_seconds": flops * lengths.samples / rate if rate else None,
    }


def presets(
    base: Any, lengths: Callable[[TrainConfig], Lengths], assumed: Assumptions, on_preset: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Return, for every shipped config, its peak and what micro batch of it fits each size of card.

    Args:
        base: the base's configuration.
        lengths: of the samples under a config.
        assumed: what no configuration tells.
        on_preset: told how many presets are done, of how many.
    """
    names = [name for name in shipped_configs() if name not in NO_PRESETS]
    rows = []
    for done, name in enumerate(names, start=1):
        config = load_config(name)
        planner = Planner(base, config, max(config.ranks))
        work = work_of(config, lengths(config))
        fitting = {str(size): _micro_batch(planner, work, assumed, size) for size in SIZES_GB}
        total = planner.memory(work).total
        rows.append({"preset": name, "method": config.method, "batch": work.batch, "bytes": total, "fits": fitting})
        on_preset(done, len(names))
    return rows


def _micro_batch(planner: Planner, work: Work, assumed: Assumptions, memory_gb: int) -> int | None:
    """Return the rows that fit, halved from the preset's until they do; None: not even one."""
    halvings = (work.batch >> shift for shift in range(int(math.log2(work.batch)) + 1))
    return next(
        (rows for rows in halvings if assumed.fits(planner.memory(replace(work, batch=rows)).total, memory_gb)), None
    )
