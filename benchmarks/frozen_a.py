"""What freezing A saves and what it does not: the same training with A frozen, and with A learning too.

    python benchmarks/frozen_a.py [--steps 6] [--threads 1]

Memory is counted on the shape of Llama-3.1-8B (rank 32, 4 x 2,048 tokens, 200 of a row learned) without its weights;
time, gradients, optimiser state and checkpoints are measured on a model small enough for a CPU. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from training import methods
from training.config import TrainConfig, load_config
from training.optimisers import make_optimizers
from training.planner.planner import Planner, Work
from training.planner.shapes import base_config
from training.planner.trace import build, set_checkpointing, take_pass, trace

METHODS = ("lora", "fa-lora")
RANK = 32
SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
ROWS, LENGTH, LABELLED = 4, 256, 32


def config_of(method: str, dtype: str = "auto") -> TrainConfig:
    """Return the reference recipe with AdamW, so that an optimiser has state to keep."""
    return load_config("reference", [f"method={method}", "optimizer=adamw", f"dtype={dtype}"])


def adapters_in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Hold the adapters in a dtype; PEFT's choice, and ours, is float32."""
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            weight.data = weight.data.to(dtype)
    return model


def saved_gib(method: str, dtype: torch.dtype, *, checkpointing: bool) -> dict[str, float]:
    """Return the peak above the weights, and what waits for backward as the forward pass ends, GiB, 8B shape."""
    model = adapters_in(build(base_config("llama-3.1-8b"), config_of(method), RANK), dtype)
    set_checkpointing(model, on=checkpointing)
    peak = sum(trace(model, 4, 2048, 200).peak().values())
    return {"peak": peak / 2**30, "saved": waiting(model) / 2**30}


def waiting(model: nn.Module) -> int:
    """Return the bytes that autograd holds between forward and backward, weights not counted."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            held[storage._cdata] = storage.nbytes()
        return tensor

    device = next(model.parameters()).device
    inner = model.get_base_model().model  # type: ignore[operator]
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        kept = inner(input_ids=torch.zeros(4, 2048, dtype=torch.long, device=device), use_cache=False)
    assert kept is not None  # noqa: S101 - alive until here, so that no storage's place was taken by another
    return sum(held.values())


def really(method: str, checkpointing: bool) -> nn.Module:
    """Return a small model of random float32 weights."""
    base: Any = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL), dtype=torch.float32, attn_implementation="sdpa")
    model = methods.attach(base, config_of(method, "float32"), RANK).train()
    set_checkpointing(model, on=checkpointing)
    return model


def stepper(method: str, checkpointing: bool) -> Callable[[], float]:
    """Return a function that takes a step and says how many CPU-seconds it took."""
    model = really(method, checkpointing)
    [optimizer] = make_optimizers(config_of(method), model)

    def step() -> float:
        began = time.process_time()
        take_pass(model, ROWS, LENGTH, LABELLED)
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - began

    return step


def step_seconds(checkpointing: bool, steps: int) -> dict[str, float]:
    """Return the median CPU-seconds of a step; the methods take turns, so that a busy machine slows both."""
    steppers = {method: stepper(method, checkpointing) for method in METHODS}
    for step in steppers.values():
        step()
    taken: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(steps):
        for method, step in steppers.items():
            taken[method].append(step())
    return {method: statistics.median(times) for method, times in taken.items()}


def kept_bytes(method: str) -> dict[str, int]:
    """Return what a step leaves and a checkpoint takes: gradients are also what DDP sends, once a step."""
    model: Any = really(method, False)
    [optimizer] = make_optimizers(config_of(method), model)
    take_pass(model, 1, 64, 8)
    gradients = sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
    optimizer.step()
    state = sum(t.nbytes for kept in optimizer.state.values() for t in kept.values() if t.ndim)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        adapter = (Path(folder) / "adapter_model.safetensors").stat().st_size
        torch.save(optimizer.state_dict(), Path(folder) / "optimizers.pt")
        trainer = (Path(folder) / "optimizers.pt").stat().st_size
    return {"gradients and DDP traffic": gradients, "AdamW state": state, "adapter file": adapter, "trainer": trainer}


def on_8b(method: str) -> dict[str, int]:
    """Return the same of the 8B shape, by arithmetic over its parameters."""
    planner = Planner(base_config("llama-3.1-8b"), config_of(method), RANK)
    memory = planner.memory(Work(4, 2048, 200, checkpointing=True))
    gradients = 4 * planner.trainable
    return {"gradients and DDP traffic": gradients, "AdamW state": 2 * gradients, "adapter file": memory.adapters}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"memory_gib": {}, "step_cpu_seconds": {}, "bytes": {}, "bytes_8b": {}}
    print("Llama-3.1-8B shape, GiB         lora: peak   saved    fa-lora: peak   saved")
    for dtype in (torch.float32, torch.bfloat16):
        for checkpointing in (False, True):
            name = f"{str(dtype)[6:]} adapters, checkpointing {'on' if checkpointing else 'off'}"
            both = {method: saved_gib(method, dtype, checkpointing=checkpointing) for method in METHODS}
            found["memory_gib"][name] = both
            print(f"{name:<40}" + "".join(f"{b['peak']:>9.2f}{b['saved']:>9.2f}" for b in both.values()))
    for checkpointing in (False, True):
        name = f"checkpointing {'on' if checkpointing else 'off'}"
        both = step_seconds(checkpointing, arguments.steps)
        found["step_cpu_seconds"][name] = both
        ratio = both["fa-lora"] / both["lora"]
        print(f"step, {name}: " + ", ".join(f"{m} {s:.2f} CPU-s" for m, s in both.items()) + f", ratio {ratio:.3f}")
    for key, measure in (("bytes", kept_bytes), ("bytes_8b", on_8b)):
        found[key] = {method: measure(method) for method in METHODS}
        for name, count in found[key]["lora"].items():
            print(f"{key}, {name}: lora {count:,}, fa-lora {found[key]['fa-lora'][name]:,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
