"""What learns: the one place that knows the five methods.

    fa-lora   LoRA whose random A is frozen                               B learns
    lora      LoRA                                                        A and B learn
    lora-fa   as fa-lora, B's gradient corrected for A (lora_fa.py)       B learns
    qlora     LoRA over a base in 4 bits, on CUDA                         A and B learn
    full      no adapter                                                  every parameter learns

A is drawn from `a_seed` under every method, so that methods and ranks differ in nothing but what they are.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import BitsAndBytesConfig

from etl.errors import ConfigError
from training import lora_fa
from training.config import TrainConfig
from training.fa_lora import TrainingStateError, freeze_lora_a, lora_a, lora_layers, seed_lora_a

FREEZES_A = ("fa-lora", "lora-fa")


def frozen(config: TrainConfig) -> list[str]:
    """Return which of an adapter's matrices do not learn."""
    return ["lora_A"] if config.method in FREEZES_A else []


def scaling(config: TrainConfig, rank: int) -> float:
    """Return what an adapter's B A is multiplied by; 0 where there is no adapter."""
    if not rank:
        return 0.0
    return config.alpha / (math.sqrt(rank) if config.scaling == "rslora" else rank)


def refuse_impossible(config: TrainConfig) -> None:
    """See that this machine can run the method and its optimiser.

    Raises:
        ConfigError: it has no CUDA GPU, or bitsandbytes is not installed.
    """
    wanted = [f"method {config.method}"] if config.method == "qlora" else []
    wanted += [f"optimizer {config.optimizer}"] if config.optimizer == "paged-adamw-8bit" else []
    lacking = [] if torch.cuda.is_available() else ["a CUDA GPU"]
    lacking += [] if find_spec("bitsandbytes") else ["bitsandbytes (pip install 'rxdraft[gpu]')"]
    if wanted and lacking:
        raise ConfigError(
            f"{' and '.join(wanted)} cannot run here without {' and '.join(lacking)}; "
            "method=lora and optimizer=adamw run anywhere"
        )


def quantization(config: TrainConfig, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return how the base is to be loaded in 4 bits; None: as it is.

    Args:
        config: of the run.
        dtype: in which the layers calculate.

    Source: Dettmers et al., QLoRA, arXiv 2305.14314: NF4 with double quantisation.
    """
    if config.method != "qlora":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def attach(model: nn.Module, config: TrainConfig, rank: int) -> nn.Module:
    """Return the base with what the method lets learn: a PeftModel with a fresh adapter, or itself for method full.

    Args:
        model: the base, as it was loaded; may lie on the meta device.
        config: of the run.
        rank: of the adapter; 0 for method full.

    Raises:
        ConfigError: the targets name no layer, or rank exceeds a layer's inputs under lora-fa.
        TrainingStateError: the freeze did not take.
    """
    if config.method == "full":
        model.requires_grad_(True)
    else:
        model = _with_adapter(model, config, rank)
        seed_lora_a(model, config.a_seed)
    settle(model, config)
    return model


def _with_adapter(model: Any, config: TrainConfig, rank: int) -> PeftModel:
    lora = LoraConfig(
        r=rank,
        lora_alpha=config.alpha,
        use_rslora=config.scaling == "rslora",
        target_modules=list(config.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    if not any(name.endswith(config.targets) for name, _ in model.named_modules()):
        raise ConfigError(f"targets {', '.join(config.targets)} name no layer of this base")
    return get_peft_model(model, lora, low_cpu_mem_usage=next(model.parameters()).is_meta)


def settle(model: nn.Module, config: TrainConfig) -> None:
    """Freeze again what must not learn, and check: for after weights were loaded or adapters were switched.

    Raises:
        TrainingStateError: something still learns that should not, or the other way round.
    """
    if frozen(config):
        freeze_lora_a(model)
    check_learning(model, config)


def check_learning(model: nn.Module, config: TrainConfig, adapter: str = "default") -> None:
    """Raise unless exactly what the method trains requires a gradient.

    Raises:
        TrainingStateError: how many parameters are wrong, and the first of them.
    """
    learning = _learning_names(config, adapter)
    known = dict(model.named_parameters())
    wrong = [name for name, weight in known.items() if weight.requires_grad is not any(n in name for n in learning)]
    if wrong:
        raise TrainingStateError(
            f"{len(wrong)} parameters learn that should not, or should and do not; first {wrong[0]}"
        )
    if not any(learning[0] in name for name in known):
        raise TrainingStateError(f"the model has no B matrix of adapter {adapter}; was it built by another method?")


def _learning_names(config: TrainConfig, adapter: str) -> tuple[str, ...]:
    """Return the parts of names by which the parameters that learn are known; "" is part of every name."""
    if config.method == "full":
        return ("",)
    return tuple(f".{matrix}.{adapter}." for matrix in ("lora_B", "lora_A") if matrix not in frozen(config))


class Frozen:
    """What must not move: A, where the method freezes it."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._model = model
        self._first = lora_a(model) if frozen(config) else {}

    def check(self) -> None:
        """Raise if a bit of it moved.

        Raises:
            TrainingStateError: in how many layers, and the first of them.
        """
        if not self._first:
            return
        now = lora_a(self._model)
        moved = [name for name, a in self._first.items() if not torch.equal(a, now[name])]
        if moved:
            raise TrainingStateError(f"A changed in {len(moved)} layers, first {moved[0]}")


class GradientCorrection:
    """lora-fa's correction of B's gradient; of every other method, nothing."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._correction = lora_fa.Correction(model) if config.method == "lora-fa" else None

    def apply(self) -> None:
        """Correct the gradients: after backward and the reduction over processes, before clipping."""
        if self._correction is not None:
            self._correction.apply()


@torch.no_grad()
def update_norm(model: nn.Module, adapter: str = "default") -> float:
    """Return |ΔW|, the Frobenius norm of scaling · B A over all layers: how far training moved the model.

    0 for a model without adapter, which keeps nothing to compare with.
    """
    total = 0.0
    for _, layer in lora_layers(model, adapter):
        a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
        # |BA|² = trace((BᵀB)(AAᵀ)), rank x rank instead of out x in
        total += layer.scaling[adapter] ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
    return math.sqrt(max(total, 0.0))


def count_trainable(model: nn.Module) -> int:
    """Return how many parameters learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
