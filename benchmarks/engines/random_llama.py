"""FA-LoRA steps on a random Llama and random rows: ours, and transformers' Trainer with PEFT.

Nothing is read or fetched. Of ours this is what `rxdraft train` does with a batch (training/step.py), without files
around it; on an NVIDIA GPU as on a CPU. `full head` puts in place of our loss the plain one, which makes the logits of
every position.
"""

from __future__ import annotations

import math
import re
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments, default_data_collator

from etl.errors import ConfigError
from training import kernels, methods
from training.base import device, resolve_attention, resolve_dtype
from training.config import TrainConfig
from training.data import IGNORED, Encoded
from training.distributed import Processes
from training.feed import Feed
from training.loss import ResponseLoss, causal_model
from training.optimisers import make_optimizers
from training.packing import packs
from training.step import Stepper

RANK = 32


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama's shape and what a step gets."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    rows: int
    tokens: int
    """To a row."""
    response_tokens: int
    """Of them, to learn."""

    def config(self) -> LlamaConfig:
        """Return the model's config."""
        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=8192,
            tie_word_embeddings=False,
        )

    def layer_weights(self) -> int:
        """Return the weights of a layer's matrices."""
        kv = self.hidden * self.kv_heads // self.heads
        return 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.intermediate

    def weights(self) -> int:
        """Return the weights of all matrices, the head's included."""
        return self.layers * self.layer_weights() + self.vocabulary * self.hidden

    def flops_of_attention(self) -> int:
        """Return the operations of causal attention: half the square, forward once and backward twice."""
        return 3 * 2 * self.rows * self.layers * self.tokens**2 * self.hidden

    def flops(self) -> int:
        """Return the floating-point operations that a step needs, whatever a trainer does beyond them.

        Two to a weight and token forward and two backward, for no frozen weight needs a gradient; six to a weight of
        B and four to one of A; the head on the tokens to learn alone; causal attention over half the square, three
        times (forward once, backward twice). Nothing for computing again what checkpointing dropped.
        """
        kv = self.hidden * self.kv_heads // self.heads
        adapter_a, adapter_b = 2 * RANK * self.hidden, RANK * (self.hidden + kv)  # on q and v
        tokens = self.rows * self.tokens
        weights = tokens * self.layers * (4 * self.layer_weights() + 4 * adapter_a + 6 * adapter_b)
        head = 4 * self.vocabulary * self.hidden * self.rows * self.response_tokens
        return weights + self.flops_of_attention() + head


LLAMA_8B = Size(4096, 14336, 32, 32, 8, 128_256, rows=4, tokens=2048, response_tokens=200)
"""Llama-3.1-8B."""
TOY = Size(256, 1024, 4, 8, 2, 8_192, rows=4, tokens=256, response_tokens=24)

SETTINGS: dict[str, dict[str, Any]] = {
    f"{who}{', checkpointing' if again else ''}": {"who": who, "checkpointing": again}
    for who in ("response head", "full head", "Trainer")
    for again in (True, False)
} | {"response head, compiled": {"who": "response head", "checkpointing": False, "compile": True}}
"""Ours by its head, and the peer. Compiled runs on CUDA only."""


class FullHeadLoss(ResponseLoss):
    """The same loss with the logits of all positions."""

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **packed: Any) -> torch.Tensor:
        """Return the sum over labelled tokens."""
        causal_lm = causal_model(self.model)
        hidden = causal_lm.model(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
        logits = causal_lm.lm_head(hidden)[:, :-1].float().flatten(0, 1)
        return F.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


class Steps:
    """The end of every optimiser step of this process, as torch tells of it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        register_optimizer_step_post_hook(self._note)

    def seconds(self, warm_up: int) -> list[float]:
        """Return what each step took from the end of the one before, after the first ones."""
        return [after - before for before, after in zip(self.times[warm_up - 1 :], self.times[warm_up:], strict=False)]

    def _note(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def measure(name: str, size: Size, steps: int, warm_up: int) -> dict[str, Any]:
    """Train some steps in one setting; return seconds of each, losses and memory, or that memory ran out."""
    setting = SETTINGS[name]
    settings = {"gradient_checkpointing": setting["checkpointing"], "compile": setting.get("compile", False)}
    config = train_config(size, **settings)
    torch.manual_seed(0)
    clock = Steps()
    attention = resolve_attention("auto", resolve_dtype(config.dtype))
    work = peer if setting["who"] == "Trainer" else ours
    try:
        with flash_kernel(attention, only=work is ours):
            losses = work(setting["who"], config, size, attention, steps + warm_up)
    except (RuntimeError, ConfigError) as error:  # torch's own, or what our step makes of it
        if not re.search(r"out of memory|can't allocate memory", str(error)):
            raise
        return {"out_of_memory": True}
    return {"seconds": clock.seconds(warm_up), "losses": losses, "attention": attention, **memory_gib()}


def train_config(size: Size, **settings: Any) -> TrainConfig:
    """Return the config of all settings: FA-LoRA of rank 32 on q and v, AdamW, all rows in memory at once."""
    return TrainConfig.model_validate(
        {
            "method": "fa-lora",
            "ranks": [RANK],
            "targets": ["q_proj", "v_proj"],
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "batch_size": size.rows,
            "micro_batch_size": size.rows,
            "max_length": size.tokens,
            "checkpoint_epochs": [1],
            **settings,
        }
    )


def ours(head: str, config: TrainConfig, size: Size, attention: str, steps: int) -> list[float]:
    """Take the steps as `rxdraft train` does; return their losses."""
    model = learner(config, size, attention)
    if config.compile:
        kernels.compile_layers(model)
    loss = (FullHeadLoss if head == "full head" else ResponseLoss)(model)
    feed = Feed(pad_id=0, micro_batch_size=size.rows, packed=packs(config, attention), device=device())
    correction = methods.GradientCorrection(model, config)
    stepper = Stepper(config, loss, make_optimizers(config, model), correction, feed, Processes(config.sharding))
    return [stepper.step(number, steps, rows)["loss"] for number, rows in enumerate(batches(size, steps), 1)]


def peer(_: str, config: TrainConfig, size: Size, attention: str, steps: int) -> list[float]:
    """Take the steps with transformers' Trainer; return their losses."""
    data = [
        {"input_ids": row.input_ids, "attention_mask": [1] * size.tokens,
         "labels": [IGNORED] * row.prompt_tokens + row.input_ids[row.prompt_tokens :]}
        for rows in batches(size, steps)
        for row in rows
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-train-gpu-") as out:
        arguments = TrainingArguments(
            output_dir=out,
            max_steps=steps,
            per_device_train_batch_size=size.rows,
            train_sampling_strategy="sequential",
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            learner(config, size, attention), arguments, train_dataset=data, data_collator=default_data_collator
        )
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def learner(config: TrainConfig, size: Size, attention: str) -> nn.Module:
    """Return a random base on the device, in bfloat16 on a GPU, with its adapter; memory is counted from here."""
    with torch.device(device()):
        base = AutoModelForCausalLM.from_config(
            size.config(), dtype=resolve_dtype(config.dtype), attn_implementation=attention
        )
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
        base.enable_input_require_grads()
    model = methods.attach(base, config, RANK).train()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return model


def batches(size: Size, steps: int) -> Iterator[list[Encoded]]:
    """Yield as many batches of random rows as there are steps; the same for all."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        ids = torch.randint(size.vocabulary, (size.rows, size.tokens), generator=draw)
        yield [Encoded(row, size.tokens - size.response_tokens) for row in ids.tolist()]


def flash_kernel(attention: str, *, only: bool) -> AbstractContextManager[Any]:
    """Have SDPA run torch's own FlashAttention-2 on CUDA; others only where a peer's mask makes that impossible."""
    if attention != "sdpa" or not torch.cuda.is_available():
        return nullcontext()
    others = [] if only else [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, *others], set_priority=True)


def memory_gib() -> dict[str, float]:
    """Return the most that was allocated and reserved on the GPU, or was resident without one."""
    if torch.cuda.is_available():
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    else:
        peak = reserved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    return {"peak_gib": peak / 2**30, "reserved_gib": reserved / 2**30}


def relative_difference(losses: list[list[float]]) -> float:
    """Return the largest difference between first losses, of which each is of the same weights and rows."""
    firsts = [each[0] for each in losses if each]
    return (max(firsts) - min(firsts)) / max(map(abs, firsts), default=math.inf) if firsts else math.nan
