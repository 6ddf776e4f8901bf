"""Ask every checkpoint for its drafts, once: predictions are kept beside the table and reused while they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from etl import prompts
from etl.cohort import to_admission
from evaluation import kept
from serving.recommender import Recommender, load_recommenders
from training.manifest import Manifest

CHUNK = 256
"""Admissions drafted between two calls of the progress callback."""

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
    """Return the name of a checkpoint's row and files: its rank and step."""
    return f"rank-{manifest.rank}-step-{manifest.step:06d}"


def predict(
    checkpoints: Sequence[tuple[Path, Manifest]],
    samples: pl.DataFrame,
    origin: dict[str, str],
    folder: Path,
    base: str | None,
    on_drafts: Callable[[str, int, int], None],
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
    """
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
            drafts = _draft(recommender, samples, partial(on_drafts, cell))
            kept.write(folder / f"{cell}.parquet", drafts, _origin(recommender.manifest, origin))
            found[cell] = drafts
    return {cell_name(manifest): found[cell_name(manifest)] for _, manifest in checkpoints}


def _draft(recommender: Recommender, samples: pl.DataFrame, on_drafts: Callable[[int, int], None]) -> pl.DataFrame:
    rows = []
    for chunk in samples.iter_slices(CHUNK):
        facts = list(chunk.iter_rows(named=True))
        for sample, drafted in zip(facts, recommender.recommend([to_admission(f) for f in facts]), strict=True):
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
