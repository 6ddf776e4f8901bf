"""The recipes that `ablate_recipe.py` compares, and what some of them change about the cohort."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from training.config import TrainConfig

SAMPLES = 480
"""Training samples that each recipe sees, but for the reference's five epochs."""
WINNER, REFERENCE = "winner", "reference"

OURS: dict[str, Any] = {
    "method": "fa-lora",
    "ranks": (16,),
    "alpha": 4,
    "scaling": "rslora",
    "optimizer": "adamw",
    "learning_rate": 3e-2,
    "warmup_steps": 6,
    "schedule": "linear",
    "clip_norm": 1.0,
    "loss_on": "response",
    "batch_size": 8,
    "max_length": 512,
    "checkpoint_steps": (SAMPLES // 8,),
}
"""At rank 16, alpha / sqrt(rank) of 4 is alpha / rank of 16: the reference's scaling, and a fair one at other ranks."""
THEIRS: dict[str, Any] = {
    "method": "fa-lora",
    "ranks": (16,),
    "alpha": 16,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "batch_size": 4,
    "max_length": 512,
    "checkpoint_steps": (SAMPLES // 4,),
}
"""training/configs/reference.toml, but for its length: samples, and tokens that no prompt here comes near."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One recipe.

    Attributes:
        name: in files.
        factor, level: in print.
        changed: settings over those of `start`.
        cohort: of COHORTS.
        start: OURS or THEIRS.
        drafted: whether its drafts are scored; else its loss and |ΔW| alone are told.
    """

    name: str
    factor: str
    level: str
    changed: dict[str, Any] = field(default_factory=dict)
    cohort: str = "as it is"
    start: dict[str, Any] = field(default_factory=lambda: OURS)
    drafted: bool = True

    def config(self, seed: int) -> TrainConfig:
        """Return the settings of the run with this seed, of A and of the order of the samples."""
        return TrainConfig.model_validate({**self.start, **self.changed, "seed": seed, "a_seed": seed})


_shortly = partial(Arm, start=THEIRS, drafted=False)
_FAIR_32 = {"ranks": (32,), "alpha": 4, "scaling": "rslora"}
ARMS = (
    Arm(WINNER, "ours", "all of ours"),
    _shortly("base", "the base", "one step at a rate of 1e-12", {"learning_rate": 1e-12, "checkpoint_steps": (1,)}),
    _shortly("reference-short", "the reference", "as many samples"),
    _shortly("reference-short-32", "the reference", "as many samples, rank 32", {"ranks": (32,)}),
    _shortly("reference-short-fair-32", "the reference", "as many samples, rank 32, alpha / √rank", _FAIR_32),
    Arm("sgd-1", "optimiser, rate", "SGD 1", {"optimizer": "sgd", "learning_rate": 1.0}),
    Arm("adamw-1e-2", "optimiser, rate", "AdamW 1e-2", {"learning_rate": 1e-2}),
    Arm("constant", "schedule", "constant after warm-up", {"schedule": "constant"}),
    Arm("rank-32-fair", "rank, scaling", "32, alpha / √rank of 4", {"ranks": (32,)}),
    Arm("rank-32", "rank, scaling", "32, alpha / rank of 16", {"ranks": (32,), "alpha": 16, "scaling": "alpha"}),
    Arm("all-tokens", "loss on", "all tokens", {"loss_on": "all"}),
    Arm("no-history", "history", "previous drugs unknown", cohort="no history"),
    Arm("alphabetical", "order of the list", "alphabetical", cohort="alphabetical"),
    Arm("commonest-first", "order of the list", "commonest first", cohort="commonest first"),
    Arm("random-order", "order of the list", "random", cohort="random"),
    Arm("lora", "method", "lora", {"method": "lora"}),
    Arm("lora-1e-2", "method", "lora, AdamW 1e-2", {"method": "lora", "learning_rate": 1e-2}),
    Arm("lora-fa", "method", "lora-fa", {"method": "lora-fa"}),
    Arm(
        REFERENCE,
        "all of it",
        "the reference, 5 epochs",
        {"checkpoint_steps": (), "checkpoint_epochs": (5,)},
        start=THEIRS,
    ),
)


# --- cohorts ----------------------------------------------------------------------------------------------


def blank_history(samples: pl.DataFrame, formulary: Sequence[str]) -> pl.DataFrame:
    """Return the samples as if no earlier stay were known."""
    return samples.with_columns(pl.lit(None, samples.schema["previous_drugs"]).alias("previous_drugs"))


def alphabetical(samples: pl.DataFrame, formulary: Sequence[str]) -> pl.DataFrame:
    """Return the samples with their drugs by name."""
    return samples.with_columns(pl.col("drugs").list.sort())


def commonest_first(samples: pl.DataFrame, formulary: Sequence[str]) -> pl.DataFrame:
    """Return the samples with their drugs by training frequency; those that training never had come last, by name."""
    place = {drug: number for number, drug in enumerate(formulary)}
    return _reordered(samples, lambda hadm_id, drugs: sorted(drugs, key=lambda d: (place.get(d, len(place)), d)))


def shuffled(samples: pl.DataFrame, formulary: Sequence[str]) -> pl.DataFrame:
    """Return the samples with their drugs in an order drawn once for each stay: the same in every epoch and seed."""
    return _reordered(samples, lambda hadm_id, drugs: random.Random(hadm_id).sample(sorted(drugs), len(drugs)))


def _reordered(samples: pl.DataFrame, order: Callable[[int, list[str]], list[str]]) -> pl.DataFrame:
    lists = [order(hadm_id, drugs) for hadm_id, drugs in samples.select("hadm_id", "drugs").iter_rows()]
    return samples.with_columns(pl.Series("drugs", lists, samples.schema["drugs"]))


COHORTS: dict[str, Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]] = {
    "as it is": lambda samples, formulary: samples,
    "no history": blank_history,
    "alphabetical": alphabetical,
    "commonest first": commonest_first,
    "random": shuffled,
}
"""As it is: drugs in the order of first prescription, then by name (sql/drug_lists.sql)."""


def write_variant(cohort: Path, name: str, out: Path, training: int) -> None:
    """Write a copy of a cohort with other samples; its cohort.json says so, and so has another digest.

    Args:
        cohort: made by `rxdraft etl`.
        name: of COHORTS.
        out: appears whole or not at all; one that stands is left.
        training: training admissions that are kept, the first ones.
    """
    if out.exists():
        return
    about = artefacts.read_json(cohort / "cohort.json", "rxdraft etl")
    formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    with artefacts.whole_or_absent(out) as new:
        new.mkdir()
        for output in about["outputs"]:
            shutil.copyfile(cohort / output, new / output)
        samples = _fewer(pl.read_parquet(cohort / "samples.parquet"), training)
        COHORTS[name](samples, formulary).write_parquet(new / "samples.parquet")
        about["outputs"]["samples.parquet"] = artefacts.sha256_file(new / "samples.parquet")
        artefacts.write_json(new / "cohort.json", {**about, "ablated": name})


def _fewer(samples: pl.DataFrame, training: int) -> pl.DataFrame:
    trained = pl.col("split") == "train"
    return samples.filter(~trained | (trained.cum_sum() <= training))
