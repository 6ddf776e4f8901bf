"""One run: what it trains on and with, its claim on a folder, and how its checkpoints describe it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from transformers import PreTrainedTokenizerBase

from etl import artefacts, prompts
from etl.cohort import read_cohort
from etl.errors import ContractError
from training import base as bases
from training import methods
from training.config import MEMORY_SETTINGS, TrainConfig
from training.data import Encoded, EncodedSplit
from training.manifest import FORMAT, Manifest
from training.questions import Question

_ROWS = (".parquet", ".jsonl")


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run trains on and with, read and checked."""

    config: TrainConfig
    rank: int
    folder: Path
    base: str
    base_folder: Path
    base_sha256: str
    cohort: Path
    cohort_sha256: str
    cohort_settings: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    train: EncodedSplit[Encoded] | EncodedSplit[Question]
    validation: EncodedSplit[Encoded] | EncodedSplit[Question]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every sample comes once."""
        return math.ceil(len(self.train.rows) / self.config.batch_size)

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps after which a checkpoint is kept; the last is the end."""
        epochs = tuple(epoch * self.steps_per_epoch for epoch in self.config.checkpoint_epochs)
        return epochs or self.config.checkpoint_steps


def claim(run: Run) -> None:
    """Write what this run is into its folder, or see that the run that stands there is this one.

    Raises:
        ContractError: another config, base or cohort was begun there, or the cohort's rows changed since it was made;
            what differs is named.
    """
    _check_rows(run.cohort)
    # The list of ranks is not this run's: another rank beside it changes nothing here.
    identity: dict[str, Any] = {
        "config": run.config.model_dump(mode="json", exclude={"ranks", *MEMORY_SETTINGS}),
        "rank": run.rank,
        "base_sha256": run.base_sha256,
        "cohort_sha256": run.cohort_sha256,
    }
    path = run.folder / "run.json"
    if not path.exists():
        with artefacts.whole_or_absent(path) as new:
            # Where the cohort lay is for whoever evaluates the run, not part of what it is.
            artefacts.write_json(new, {**identity, "cohort": str(run.cohort.resolve())})
        return
    stands = artefacts.read_json(path, "rxdraft train")
    artefacts.check_same(run.folder, stands, identity, within="config", to_do="choose another --out")


def _check_rows(cohort: Path) -> None:
    """See that what is learned from is what cohort.json describes: a file may have been edited by hand."""
    rows = {name: digest for name, digest in read_cohort(cohort)["outputs"].items() if name.endswith(_ROWS)}
    changed = [name for name, digest in rows.items() if artefacts.sha256_file(cohort / name) != digest]
    if changed:
        raise ContractError(
            f"{cohort} holds another {', '.join(changed)} than its cohort.json describes; make the cohort again"
        )


def describe(
    run: Run, learning: nn.Module, step: int, losses: dict[str, float | None], best: bool | None = None
) -> Manifest:
    """Return a checkpoint's manifest, but for the digest of its weights, which `checkpoint.save` knows.

    Args:
        run: whose checkpoint it is.
        learning: the model, and the label head where there is one.
        step, losses, best: as the manifest has them.
    """
    # A label head writes no answer, so the question has all the room.
    longest = max(row.response_tokens if isinstance(row, Encoded) else 0 for row in run.train.rows)
    return Manifest(
        format=FORMAT,
        base=run.base,
        base_revision=bases.base_revision(run.base_folder),
        base_sha256=run.base_sha256,
        objective=run.config.objective,
        method=run.config.method,
        rank=run.rank,
        alpha=run.config.alpha if run.rank else 0,
        scaling=methods.scaling(run.config, run.rank),
        scaling_kind=run.config.scaling if run.rank else "",
        targets=list(run.config.targets) if run.rank else [],
        frozen=methods.frozen(run.config),
        a_seed=run.config.a_seed,
        step=step,
        steps=run.checkpoint_steps[-1],
        best=best,
        trainable_parameters=methods.count_trainable(learning),
        weights_sha256="",
        cohort_sha256=run.cohort_sha256,
        cohort_settings=run.cohort_settings,
        prompt_version=prompts.VERSION,
        template_date=prompts.TEMPLATE_DATE,
        formulary_sha256=artefacts.sha256_file(run.cohort / "formulary.parquet"),
        icd_titles_sha256=artefacts.sha256_file(run.cohort / "icd_titles.parquet"),
        max_length=run.config.max_length,
        max_answer_tokens=math.ceil(longest * 4 / 3),
        losses=losses,
        samples=len(run.train.rows),
        shortened=run.train.shortened,
        calibration=None,
        config=run.config.model_dump(mode="json"),
        machine=_machine(run.config),
        versions={name: version(name) for name in ("rxdraft", "torch", "transformers", "peft", "tokenizers")},
    )


def _machine(config: TrainConfig) -> dict[str, Any]:
    """Return what besides config, data and versions decides the last bits of a result."""
    device, dtype = bases.device(), bases.resolve_dtype(config.dtype)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "attention": bases.resolve_attention(config.attention, dtype),
        "processes": distributed.get_world_size() if distributed.is_initialized() else 1,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
