"""What a training run is: one frozen config, read from TOML, overridden key by key, checked as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from etl.errors import ConfigError

MEMORY_SETTINGS = ("micro_batch_size", "gradient_checkpointing", "packing", "compile", "fused_kernels")
"""What changes memory and time and not what is learned: a run may go on with others than it began with."""

_UNSHARDED = ("muon", "paged-adamw-8bit")
"""Optimisers that want a whole matrix."""


class TrainConfig(BaseModel):
    """Settings of `rxdraft train`; each rank of `ranks` is one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["list", "labels"] = "list"
    """list: the model learns to write its drugs. labels: a head beside it learns every drug's probability, read off the
    hidden states of the question (`training/labels.py`)."""
    method: Literal["fa-lora", "lora", "lora-fa", "qlora", "full"] = "fa-lora"
    """fa-lora: LoRA whose random A is frozen, B learns. lora: both learn. lora-fa: fa-lora with the gradient of B
    corrected for A. qlora: lora over a base in 4 bits, on CUDA. full: every parameter learns."""
    ranks: tuple[int, ...] = Field((16, 32), min_length=1)
    """LoRA ranks, each trained by itself; ignored by method full."""
    alpha: float = Field(16, gt=0)
    """The update is scaled by alpha / rank, or as `scaling` says."""
    scaling: Literal["alpha", "rslora"] = "alpha"
    """alpha: alpha / rank, under which SGD's step shrinks as the rank grows. rslora: alpha / sqrt(rank), under which
    it does not."""
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1)
    """Linear layers that get an adapter, by the ends of their names."""
    a_seed: int = 0
    """Seed of A, drawn on the CPU; rank 16's A is the first 16 rows of rank 32's."""

    optimizer: Literal["sgd", "adamw", "paged-adamw-8bit", "muon"]
    """sgd: plain, as the reference has it. adamw: betas .9 and .999. paged-adamw-8bit: adamw with its state in 8 bits,
    which leaves the GPU where room is short; on CUDA. muon: orthogonalised momentum on the inner matrices and adamw
    on the rest, for method full; half the samples adamw needs to pretrain the tiny base."""
    learning_rate: float = Field(gt=0)
    """At its highest, after warm-up."""
    head_learning_rate: float | None = Field(None, gt=0)
    """The label head's, on the same schedule; None: `learning_rate`. Under objective list there is no head."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled for adamw; L2 for sgd."""
    head_weight_decay: float = Field(0.0, ge=0)
    """Of the label head's matrices, never of its biases and norm."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the rate rises from 0, linearly."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up. Under linear and cosine the rate ends at 0, so an earlier checkpoint is no shorter training."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; None: not clipped."""

    batch_size: int = Field(4, ge=1)
    """Samples to an optimiser step, over all processes."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Samples in memory at once on one process; None: all of its share, on a CPU 1,024 tokens. Changes memory, not the
    result."""
    max_length: int = Field(2048, ge=64)
    """Tokens per sample; a longer prompt loses its last-ranked diagnoses, its answer never a token."""
    checkpoint_epochs: tuple[int, ...] = ()
    """Epochs after which a checkpoint is kept; training ends with the last. Or give `checkpoint_steps`."""
    checkpoint_steps: tuple[int, ...] = ()
    """Optimiser steps after which a checkpoint is kept; training ends with the last."""
    validate_every: int | None = Field(None, ge=1)
    """Optimiser steps between two looks at the validation loss; None: at checkpoints only."""
    patience: int | None = Field(None, ge=1)
    """Looks without a lower validation loss after which training stops, the best step kept; None: never stops early."""
    loss_on: Literal["response", "all"] = "response"
    """Tokens to learn: the answer's, or the prompt's too."""
    seed: int = 0
    """Of the order of the samples."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the base's weights; auto: bfloat16 on a GPU, float32 without. Adapters are always float32."""
    attention: Literal["auto", "flash_attention_2", "sdpa"] = "auto"
    """auto: flash_attention_2 where flash-attn and a GPU are there, else sdpa."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    packing: Literal["auto", "on", "off"] = "auto"
    """Conversations end to end without padding, through varlen FlashAttention-2; auto: where it runs, else padded."""
    compile: bool = False
    """torch.compile the layers."""
    fused_kernels: bool = False
    """Liger's Triton kernels, on CUDA."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: a whole model on each, or one spread over all."""

    @model_validator(mode="after")
    def _check_together(self) -> TrainConfig:
        if problems := [*self._wrong_checkpoints(), *self._wrong_together(), *self._wrong_for_labels()]:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_checkpoints(self) -> Iterator[str]:
        """Yield what is wrong with when a run keeps checkpoints, looks at the validation loss, and ends."""
        if bool(self.checkpoint_epochs) == bool(self.checkpoint_steps):
            yield "give one of checkpoint_epochs and checkpoint_steps"
        for name in ("checkpoint_epochs", "checkpoint_steps"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)) or (values and values[0] < 1):
                yield f"{name} must rise and begin at 1 or later"
        kept = len(self.checkpoint_epochs) + len(self.checkpoint_steps)
        if self.schedule != "constant" and kept > 1:
            yield f"schedule {self.schedule} takes one checkpoint: an earlier one would be no shorter training"
        if self.patience is not None and self.validate_every is None and kept <= self.patience:
            yield f"patience {self.patience} never stops a run that looks {kept} times; give validate_every"

    def _wrong_together(self) -> Iterator[str]:
        """Yield which method, optimiser and spreading over processes do not go together."""
        if len(set(self.ranks)) < len(self.ranks) or min(self.ranks) < 1:
            yield "ranks must be positive and differ"
        if self.optimizer == "muon" and self.method != "full":
            yield "optimizer muon is for method full; an adapter takes adamw or sgd"
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            yield f"micro_batch_size {self.micro_batch_size} exceeds batch_size {self.batch_size}"
        if self.sharding == "fsdp":
            whole = [f"optimizer {self.optimizer}"] if self.optimizer in _UNSHARDED else []
            whole += ["the 4-bit base of method qlora"] if self.method == "qlora" else []
            yield from (f"sharding fsdp cannot spread {name}; take ddp" for name in whole)

    def _wrong_for_labels(self) -> Iterator[str]:
        """Yield what the label head cannot learn beside."""
        if self.objective == "list":
            return
        if self.method == "full":
            yield "objective labels keeps its head beside an adapter, and method full has none; take lora"
        if self.sharding == "fsdp":
            yield "sharding fsdp knows the gradients of layers and adapters, and a label head is neither; take ddp"
        if self.packing == "on":
            yield "packing on is for objective list: a label head looks at one question at a time; take auto"
        if self.loss_on == "all":
            yield "loss_on all is for objective list: under labels no token is learned"


def shipped_configs() -> list[str]:
    """Return the names of the configs that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in (files("training") / "configs").iterdir()
        if entry.name.endswith(".toml")
    )


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a shipped config by name or a TOML file by path, put `key=value` pairs over it, and check it.

    Raises:
        ConfigError: the file, a pair or the settings are wrong; every problem is named.
    """
    if name_or_path in shipped_configs():
        text = (files("training") / "configs" / f"{name_or_path}.toml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text("utf-8")
    else:
        raise ConfigError(f"no config {name_or_path}: neither a file nor one of {', '.join(shipped_configs())}")
    try:
        settings: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {name_or_path} is not TOML: {error}") from None
    problems = []
    for pair in overrides:
        key, separator, value = pair.partition("=")
        if separator:
            settings[key.strip()] = _toml_value(value.strip())
        else:
            problems.append(f"--set {pair}: wanted key=value")
    try:
        config = TrainConfig.model_validate(settings)
    except ValidationError as error:
        problems += [_describe(dict(detail)) for detail in error.errors()]
    if problems:
        raise ConfigError(f"config {name_or_path}: {'; '.join(problems)}")
    return config


def _toml_value(text: str) -> Any:
    """Read the right side of `--set`; what is no TOML value is taken as a word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _describe(detail: dict[str, Any]) -> str:
    where = ".".join(map(str, detail["loc"]))
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{where} is no setting; known are {', '.join(sorted(TrainConfig.model_fields))}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    return f"{where} = {detail['input']!r}: {message}" if where else message
