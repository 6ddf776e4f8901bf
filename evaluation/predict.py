"""Ask every checkpoint for its drafts, once: predictions are kept beside the table and reused while they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from etl import kept, prompts
from etl.cohort import to_admission
from serving.recommender import Recommender, load_recommenders
from training.manifest import Manifest

CHUNK = 256
"""Admissions drafted between two calls of the progress callback."""

DEFAULT_METHOD = "fa-lora"

SCHEMA: dict[str, Any] = {
    "subject_id": pl.Int64,
    "hadm_id": pl.Int64,
    "outcome": pl.String,
    "drugs": pl.List(pl.String),
    "repeats": pl.Int64,
    "dropped_diagnoses": pl.Int64,
    "text": pl.String,
}


def cell_name(manifest: Manifest) -> str:
    """Return the name of a checkpoint's row and files: rank and step, and what is not fa-lora with seed 0.

    It depends on the manifest alone, so that a checkpoint has one name whatever stands beside it.
    """
    return "".join(
        (
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
    raw: bool = True,
) -> dict[str, pl.DataFrame]:
    """Return each checkpoint's predictions for the samples, by cell name.

    The columns are subject_id, hadm_id, outcome, drugs, repeats, dropped_diagnoses and text, the model's raw
    words, which are never overwritten.

    Args:
        checkpoints: with their manifests, of one base.
        samples: rows of samples.parquet.
        origin: what else decides a prediction (cohort digest, split); kept in the file and compared.
        folder: gets one Parquet file per cell, whole or absent.
        base: where the base lies now; None: where the manifests say.
        on_drafts: told (cell, admissions drafted so far, all).
        raw: what the model writes; else its lists as they are served, of formulary drugs alone.
    """
    origin = origin if raw else {**origin, "decoding": "constrained"}
    found: dict[str, pl.DataFrame] = {}
    missing: list[tuple[Path, Manifest]] = []
    for checkpoint, manifest in checkpoints:
        cell = cell_name(manifest)
        table = kept.read(folder / f"{cell}.parquet", _origin(manifest, origin))
        if table is None:
            missing.append((checkpoint, manifest))
        else:
            found[cell] = table
            on_drafts(cell, table.height, table.height)
    if missing:
        for recommender in load_recommenders([checkpoint for checkpoint, _ in missing], base):
            cell = cell_name(recommender.manifest)
            drafts = _draft(recommender, samples, partial(on_drafts, cell), raw)
            kept.write(folder / f"{cell}.parquet", drafts, _origin(recommender.manifest, origin))
            found[cell] = drafts
    return {cell_name(manifest): found[cell_name(manifest)] for _, manifest in checkpoints}


def _draft(
    recommender: Recommender, samples: pl.DataFrame, on_drafts: Callable[[int, int], None], raw: bool
) -> pl.DataFrame:
    rows = []
    for chunk in samples.iter_slices(CHUNK):
        facts = list(chunk.iter_rows(named=True))
        drafts = recommender.recommend([to_admission(f) for f in facts], raw=raw)
        for sample, drafted in zip(facts, drafts, strict=True):
            rows.append(
                {
                    "subject_id": sample["subject_id"],
                    "hadm_id": sample["hadm_id"],
                    "outcome": drafted.answer.outcome.value,
                    "drugs": list(drafted.answer.drugs),
                    "repeats": drafted.answer.repeats,
                    "dropped_diagnoses": drafted.dropped_diagnoses,
                    "text": drafted.text,
                }
            )
        on_drafts(len(rows), samples.height)
    return pl.DataFrame(rows, schema=SCHEMA)


def _origin(manifest: Manifest, origin: dict[str, str]) -> dict[str, str]:
    return {
        **origin,
        "weights_sha256": manifest.weights_sha256,
        "base_sha256": manifest.base_sha256,
        "prompt_version": prompts.VERSION,
    }
