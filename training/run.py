"""One run: what it trains on and with, its claim on a folder, its log, and how its checkpoints describe it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from etl import artefacts, prompts
from training import fa_lora
from training.config import TrainConfig
from training.data import EncodedSplit
from training.manifest import FORMAT, Manifest


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
    train: EncodedSplit
    validation: EncodedSplit

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
    """Write what this run is into its folder, or see that the run that stands there is this one."""
    identity: dict[str, Any] = {
        # The list of ranks is not this run's: another rank beside it changes nothing here.
        "config": {k: v for k, v in run.config.model_dump(mode="json").items() if k != "ranks"},
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


def describe(run: Run, model: nn.Module, step: int, losses: dict[str, float | None]) -> Manifest:
    """Return a checkpoint's manifest, but for the digest of its weights, which `checkpoint.save` knows."""
    longest = max(row.response_tokens for row in run.train.rows)
    return Manifest(
        format=FORMAT,
        base=run.base,
        base_sha256=run.base_sha256,
        method=run.config.method,
        rank=run.rank,
        alpha=run.config.alpha if run.rank else 0,
        scaling=run.config.alpha / run.rank if run.rank else 0,
        targets=list(run.config.targets) if run.rank else [],
        frozen=["lora_A"] if run.rank else [],
        a_seed=run.config.a_seed,
        step=step,
        steps=run.checkpoint_steps[-1],
        trainable_parameters=fa_lora.count_trainable(model),
        weights_sha256="",
        cohort_sha256=run.cohort_sha256,
        cohort_settings=run.cohort_settings,
        prompt_version=prompts.VERSION,
        formulary_sha256=artefacts.sha256_file(run.cohort / "formulary.parquet"),
        icd_titles_sha256=artefacts.sha256_file(run.cohort / "icd_titles.parquet"),
        max_length=run.config.max_length,
        max_answer_tokens=math.ceil(longest * 4 / 3),
        losses=losses,
        samples=len(run.train.rows),
        shortened=run.train.shortened,
        config=run.config.model_dump(mode="json"),
        versions={name: version(name) for name in ("rxdraft", "torch", "transformers", "peft", "tokenizers")},
    )


class StepLog:
    """`log.jsonl`: a line per step, without any of a sample's text; lines after `keep` are of a lost run."""

    def __init__(self, path: Path, keep: int) -> None:
        lines: Iterable[str] = path.read_text("utf-8").splitlines() if path.exists() else ()
        kept = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the line a kill cut short
                break
            if entry["step"] <= keep:
                kept.append(line + "\n")
        path.write_text("".join(kept), "utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: dict[str, Any]) -> None:
        """Add a step's line."""
        self._file.write(json.dumps(entry) + "\n")

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
