"""What a training run is: one frozen config, read from TOML, overridden key by key, checked as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from etl.errors import ConfigError


class TrainConfig(BaseModel):
    """Settings of `rxdraft train`; each rank of `ranks` is one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["fa-lora", "full"] = "fa-lora"
    """fa-lora: LoRA whose random A is frozen, B learns. full: every parameter learns."""
    ranks: tuple[int, ...] = Field((16, 32), min_length=1)
    """LoRA ranks, each trained by itself; ignored by method full."""
    alpha: float = Field(16, gt=0)
    """The update is scaled by alpha / rank."""
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1)
    """Linear layers that get an adapter, by the ends of their names."""
    a_seed: int = 0
    """Seed of the frozen A; rank 16's A is the first 16 rows of rank 32's."""

    optimizer: Literal["sgd", "adamw", "muon"]
    """sgd: plain, as the reference has it. adamw: betas .9 and .999. muon: orthogonalised momentum on the inner
    matrices and adamw on the rest, for method full; half the samples adamw needs to pretrain the tiny base."""
    learning_rate: float = Field(gt=0)
    """At its highest, after warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled for adamw; L2 for sgd."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the rate rises from 0, linearly."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After warm-up. Under cosine the rate ends at 0, so an earlier checkpoint is no shorter training."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; None: not clipped."""

    batch_size: int = Field(4, ge=1)
    """Samples to an optimiser step."""
    max_length: int = Field(2048, ge=64)
    """Tokens per sample; a longer prompt loses its last-ranked diagnoses, its answer never a token."""
    checkpoint_epochs: tuple[int, ...] = ()
    """Epochs after which a checkpoint is kept; training ends with the last. Or give `checkpoint_steps`."""
    checkpoint_steps: tuple[int, ...] = ()
    """Optimiser steps after which a checkpoint is kept; training ends with the last."""
    seed: int = 0
    """Of the order of the samples."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the base's weights; auto: bfloat16 on a GPU, float32 without. B is always float32."""
    attention: Literal["auto", "flash_attention_2", "sdpa"] = "auto"
    """auto: flash_attention_2 where flash-attn and a GPU are there, else sdpa."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def _check_together(self) -> TrainConfig:
        problems = []
        if bool(self.checkpoint_epochs) == bool(self.checkpoint_steps):
            problems.append("give one of checkpoint_epochs and checkpoint_steps")
        for name in ("checkpoint_epochs", "checkpoint_steps"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)) or (values and values[0] < 1):
                problems.append(f"{name} must rise and begin at 1 or later")
        if len(set(self.ranks)) < len(self.ranks) or min(self.ranks) < 1:
            problems.append("ranks must be positive and differ")
        if self.schedule == "cosine" and len(self.checkpoint_epochs) + len(self.checkpoint_steps) > 1:
            problems.append("schedule cosine takes one checkpoint: an earlier one would be no shorter training")
        if self.optimizer == "muon" and self.method != "full":
            problems.append("optimizer muon is for method full; an adapter takes adamw or sgd")
        if problems:
            raise ValueError("; ".join(problems))
        return self


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
