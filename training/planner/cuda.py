"""Hold a plan against a GPU: the same step, really taken."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from etl.errors import ConfigError
from training import methods
from training.base import resolve_attention, resolve_dtype
from training.config import TrainConfig
from training.optimisers import make_optimizers
from training.planner.planner import Planner, Work
from training.planner.trace import set_checkpointing, take_pass


def measure_cuda(base: Any, config: TrainConfig, rank: int, work: Work) -> dict[str, int]:
    """Train two steps of random weights and return the second's peak beside the plan's.

    Args:
        base: the base's configuration, as transformers has it.
        config: of the run; its batch is taken in passes of `work.batch` rows.
        rank: of the adapter; 0 for method full.
        work: what is in memory at once.

    Returns:
        `planned` and `measured`, bytes that tensors take; and `reserved`, what torch's allocator took for them.
        What CUDA itself takes is in none of them.

    Raises:
        ConfigError: there is no CUDA GPU, or the method is qlora, whose random base nobody packs.
    """
    if not torch.cuda.is_available() or config.method == "qlora":
        raise ConfigError("measuring a plan needs a CUDA GPU and a method other than qlora")
    planned = Planner(base, config, rank).memory(work).total
    with torch.device("cuda"):
        model: Any = AutoModelForCausalLM.from_config(
            base, dtype=resolve_dtype(config.dtype), attn_implementation=resolve_attention(config.attention)
        )
    model = methods.attach(model, config, rank).train()
    set_checkpointing(model, on=work.checkpointing)
    optimizers = make_optimizers(config, model)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2 if work.batch < config.batch_size else 1):
            take_pass(model, work.batch, work.length, work.labelled)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return {
        "planned": planned,
        "measured": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }
