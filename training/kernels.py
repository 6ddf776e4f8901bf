"""What makes the same layers faster on CUDA, where it is asked for: torch.compile, and Liger's kernels."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn
from transformers import PreTrainedModel

from etl.errors import ConfigError
from training.config import TrainConfig
from training.loss import causal_model


def refuse_impossible(config: TrainConfig) -> None:
    """See that this machine can run the kernels asked for.

    Raises:
        ConfigError: it has no CUDA GPU, or liger-kernel is not installed.
    """
    wanted = [name for name in ("compile", "fused_kernels") if getattr(config, name)]
    lacking = [] if torch.cuda.is_available() else ["a CUDA GPU"]
    if config.fused_kernels and not find_spec("liger_kernel"):
        lacking.append("liger-kernel (pip install 'rxdraft[gpu]')")
    if wanted and lacking:
        raise ConfigError(f"{' and '.join(wanted)} cannot run here without {' and '.join(lacking)}; set to false")


def fuse(model: PreTrainedModel) -> None:
    """Put Liger's kernels in place of a base's norms, rotary embedding and MLP; its losses have no use here."""
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def compile_layers(model: nn.Module) -> None:
    """Compile each layer once for all lengths: adapters included, so after they were attached."""
    for layer in causal_model(model).model.layers:
        layer.compile(dynamic=True)
