"""Ask every checkpoint for its drafts, once: predictions are kept beside the table and reused while they fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl import artefacts, kept, prompts
from etl.cohort import to_admission
from serving.recommendation import Recommendation
from serving.recommenders.lists import Recommender, load_recommenders
from training.manifest import Manifest

if TYPE_CHECKING:
    from serving.recommenders.labels import LabelRecommender

CHUNK = 256
"""Admissions drafted between two calls of the progress callback."""

DEFAULT_METHOD = "fa-lora"
LABELS = "labels"
"""The objective of a checkpoint that writes nothing: a head gives every drug a probability."""

SCHEMA: dict[str, Any] = {
    "subject_id": pl.Int64,
    "hadm_id": pl.Int64,
    "outcome": pl.String,
    "drugs": pl.List(pl.String),
    "repeats": pl.Int64,
    "dropped_diagnoses": pl.Int64,
    "text": pl.String,
    "chances": pl.List(pl.Float32),
}
"""Columns of a row's drafts. text: the model's own words, never overwritten. chances: of every drug of the formulary,
in its order; null where nobody knows them."""


class Decoding(StrEnum):
    """How a checkpoint is asked."""

    RAW = "raw"
    """Whatever it writes; of labels, what its head says, neither blended nor calibrated."""
    CONSTRAINED = "constrained"
    """Held to the formulary, its likeliest list; no probabilities. Labels know no such thing."""
    SERVED = "served"
    """As `rxdraft serve` asks: by votes where it is calibrated so, constrained else."""


def cell_name(manifest: Manifest) -> str:
    """Return the name of a checkpoint's row and files: rank and step, and what is not a list of fa-lora with seed 0.

    It depends on the manifest alone, so that a checkpoint has one name whatever stands beside it.
    """
    return "".join(
        (
            "labels-" if manifest.objective == LABELS else "",
            "" if manifest.method in (DEFAULT_METHOD, "full") else f"{manifest.method}-",
            f"rank-{manifest.rank}-step-{manifest.step:06d}",
            *(f"-{seed}" for seed in seeds_of(manifest)),
        )
    )


def seeds_of(manifest: Manifest) -> list[str]:
    """Return the seeds of a run that are not 0, in words: of the order, and of A where it is another."""
    order, a = manifest.config.get("seed", 0), manifest.a_seed
    return [f"seed-{order}"] * bool(order) + [f"a-{a}"] * (a != order)


def predict(
    checkpoints: Sequence[tuple[Path, Manifest]],
    samples: pl.DataFrame,
    origin: dict[str, str],
    folder: Path,
    base: str | None,
    on_drafts: Callable[[str, int, int], None],
    *,
    decoding: Decoding = Decoding.RAW,
) -> dict[str, pl.DataFrame]:
    """Return each checkpoint's predictions for the samples, by cell name; see SCHEMA.

    Args:
        checkpoints: with their manifests, of one base.
        samples: rows of samples.parquet.
        origin: what else decides a prediction (cohort digest, split); kept in the file and compared.
        folder: gets one Parquet file per cell, whole or absent.
        base: where the base lies now; None: where the manifests say.
        on_drafts: told (cell, admissions drafted so far, all).
        decoding: of the checkpoints that write lists.
    """
    found: dict[str, pl.DataFrame] = {}
    missing: list[tuple[Path, Manifest]] = []
    for checkpoint, manifest in checkpoints:
        cell = cell_name(manifest)
        table = kept.read(folder / f"{cell}.parquet", _origin(manifest, origin, decoding))
        if table is None:
            missing.append((checkpoint, manifest))
        else:
            found[cell] = table
            on_drafts(cell, table.height, table.height)
    if missing:
        for recommender in _load([checkpoint for checkpoint, _ in missing], base, decoding):
            cell = cell_name(recommender.manifest)
            drafts = _draft(recommender, samples, partial(on_drafts, cell), decoding)
            kept.write(folder / f"{cell}.parquet", drafts, _origin(recommender.manifest, origin, decoding))
            found[cell] = drafts
    return {cell_name(manifest): found[cell_name(manifest)] for _, manifest in checkpoints}


def _load(checkpoints: list[Path], base: str | None, decoding: Decoding) -> Sequence[Recommender | LabelRecommender]:
    if decoding is Decoding.CONSTRAINED:
        return load_recommenders(checkpoints, base, k=1)
    return load_recommenders(checkpoints, base, alone=decoding is Decoding.RAW)


def _draft(
    recommender: Recommender | LabelRecommender,
    samples: pl.DataFrame,
    on_drafts: Callable[[int, int], None],
    decoding: Decoding,
) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for chunk in samples.iter_slices(CHUNK):
        facts = list(chunk.iter_rows(named=True))
        admissions = [to_admission(sample) for sample in facts]
        if isinstance(recommender, Recommender):
            drafts = recommender.recommend(admissions, raw=decoding is Decoding.RAW)
        else:
            drafts = recommender.recommend(admissions)
        rows += [_row(sample, drafted) for sample, drafted in zip(facts, drafts, strict=True)]
        on_drafts(len(rows), samples.height)
    return pl.DataFrame(rows, schema=SCHEMA)


def _row(sample: dict[str, Any], drafted: Recommendation) -> dict[str, Any]:
    return {
        "subject_id": sample["subject_id"],
        "hadm_id": sample["hadm_id"],
        "outcome": drafted.answer.outcome.value,
        "drugs": list(drafted.answer.drugs),
        "repeats": drafted.answer.repeats,
        "dropped_diagnoses": drafted.dropped_diagnoses,
        "text": drafted.text,
        "chances": drafted.chances,
    }


def _origin(manifest: Manifest, origin: dict[str, str], decoding: Decoding) -> dict[str, str]:
    """Return all that decides a prediction; a calibration has its part in what is served, and in nothing else."""
    calibration = artefacts.sha256(json.dumps(manifest.calibration, sort_keys=True).encode())
    return {
        **origin,
        **({} if decoding is Decoding.RAW else {"decoding": decoding.value}),
        **({"calibration_sha256": calibration} if decoding is Decoding.SERVED else {}),
        "weights_sha256": manifest.weights_sha256,
        "base_sha256": manifest.base_sha256,
        "prompt_version": prompts.VERSION,
    }
