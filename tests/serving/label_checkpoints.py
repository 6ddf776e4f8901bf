"""Checkpoints of label models: an adapter that was trained, and a head of random weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch

from training.checkpoint import weights_sha256
from training.labels import LabelHead, save_head
from training.manifest import read_manifest, write_manifest


def make_label_checkpoint(source: Path, folder: Path, seed: int, labels: int | None = None) -> Path:
    """Put a head of random weights beside a checkpoint's adapter.

    Args:
        source: checkpoint of a tiny base, which has 64 hidden units.
        folder: of the one that is made.
        seed: of the weights.
        labels: of the head; None: as many as the formulary has drugs.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("trainer"))
    formulary = pl.read_parquet(folder / "vocabulary" / "formulary.parquet").height
    draw = torch.Generator().manual_seed(seed)
    head = LabelHead(64, labels or formulary)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(0.15 * torch.randn(weight.shape, generator=draw))
        head.norm.weight.add_(1)
        head.bias.sub_(1.5)
    save_head(head, folder / "adapter")
    digest = weights_sha256(folder / "adapter")
    write_manifest(folder, replace(read_manifest(folder), objective="labels", weights_sha256=digest))
    return folder
