"""Checkpoints of every method, made without training: an adapter whose B is drawn, or the base's own weights moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from etl import prompts
from training import base as bases
from training import checkpoint, methods
from training.config import load_config
from training.labels import LabelHead
from training.manifest import FORMAT, Manifest, read_manifest, write_manifest

RANK = 4


@pytest.fixture
def make_checkpoint(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(
        method: str = "fa-lora",
        scaling: str = "alpha",
        open_data: bool = False,
        base: str | None = None,
        objective: str = "list",
    ) -> Path:
        config = load_config("smoke", [f"method={method}", f"scaling={scaling}", f"ranks=[{RANK}]"])
        rank = 0 if method == "full" else RANK
        model = methods.attach(bases.load_model(random_base, torch.float32, "sdpa"), config, rank)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name or (not rank and "proj" in name):
                    weight.add_(0.05 * torch.randn(weight.shape, generator=draw))
        manifest = Manifest(
            format=FORMAT,
            base=base or str(random_base),
            base_revision=None,
            base_sha256=bases.base_sha256(random_base),
            objective=objective,
            method=method,
            rank=rank,
            alpha=config.alpha if rank else 0,
            scaling=methods.scaling(config, rank),
            scaling_kind=scaling if rank else "",
            targets=list(config.targets) if rank else [],
            frozen=methods.frozen(config),
            a_seed=0,
            step=2,
            steps=4,
            best=True,
            trainable_parameters=methods.count_trainable(model),
            weights_sha256="",
            cohort_sha256="c0ffee" * 10 + "c0de",
            cohort_settings={"open_data": open_data},
            prompt_version=prompts.VERSION,
            template_date=prompts.TEMPLATE_DATE,
            formulary_sha256="",
            icd_titles_sha256="",
            max_length=1024,
            max_answer_tokens=64,
            losses={"train": 1.25, "validation": None},
            samples=100,
            shortened=0,
            calibration=None,
            config=config.model_dump(mode="json"),
            machine={"device": "cpu"},
            versions={"rxdraft": "0.1.0"},
        )
        folder = tmp_path / "runs" / f"{method}-{scaling}" / "step-000002"
        tokenizer = bases.load_tokenizer(random_base)
        head = LabelHead(model.config.hidden_size, 3) if objective == "labels" else None
        checkpoint.save(folder, model, tokenizer, [], tiny_cohort, manifest, head)
        return folder

    return make


@pytest.fixture
def redescribed() -> Callable[..., None]:
    """Change fields of a checkpoint's manifest."""

    def change(folder: Path, **fields: object) -> None:
        write_manifest(folder, Manifest(**{**asdict(read_manifest(folder)), **fields}))

    return change
