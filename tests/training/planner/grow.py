"""Prints what one step was counted to need at its highest moment, and by how much this process then grew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from training import methods
from training.config import load_config
from training.planner.trace import build, take_pass, trace

BASE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}


def resident(field: str) -> int:
    """Return a line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


config = load_config("smoke", ["dtype=float32"])
counted = trace(build(LlamaConfig(**BASE), config, 16), 8, 512, 100)
model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**BASE), dtype=torch.float32, attn_implementation="sdpa")
model = methods.attach(model, config, 16).train()
take_pass(model, 1, 32, 8)  # libraries load what they load at their first step
model.zero_grad()
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the highest so far is forgotten
take_pass(model, 8, 512, 100)
print(sum(counted.peak().values()), resident("VmHWM") - before)
