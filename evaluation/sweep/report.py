"""Evaluate the whole trials of a sweep on one loaded base, and write what they found.

SWEEP/evaluation-SPLIT/    as `evaluation/evaluate.py` writes it, a row a checkpoint, and
  sweep.csv    every cell and every seed, with intervals
  sweep.md     the same to read
  sweep.svg    Jaccard and validation loss by step
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.errors import ContractError
from evaluation.evaluate import evaluate
from evaluation.figures import Figures
from evaluation.predict import cell_name
from evaluation.results import Redrawn
from evaluation.rows import BASE, Asked, Told
from evaluation.sweep.cells import METRICS, Swept, cells_of, effects_of
from evaluation.sweep.picture import picture
from evaluation.sweep.table import text
from training.manifest import find_checkpoints, read_manifest
from training.sweep.grid import Trial
from training.sweep.status import State, standing


def evaluate_sweep(
    trials: Sequence[Trial], split: str, out: Path, redrawn: Redrawn, told: Told = lambda row, done, total: None
) -> Swept:
    """Score every checkpoint of the trials that are whole, and the base, and write table and plot.

    Args:
        trials: of one sweep.
        split: train, validation or test.
        out: folder to write; drafts that fit are reused.
        redrawn: how patients are redrawn.
        told: told (row, admissions drafted so far, all).

    Raises:
        ContractError: no trial is whole.
    """
    standings = {trial.name: standing(trial.folder) for trial in trials}
    whole = [trial for trial in trials if standings[trial.name].state is State.WHOLE]
    failed = {name: at.why or f"{at.state}" for name, at in standings.items() if at.state is not State.WHOLE}
    if not whole:
        raise ContractError(f"no trial is whole: {causes(failed)}")
    folders = [trial.folder for trial in whole]
    asked = Asked(rows=(BASE,), redrawn=redrawn)
    found = evaluate(folders, whole[0].cohort, split, out, asked, base=whole[0].base, told=told)
    manifests = [read_manifest(path) for folder in folders for path in find_checkpoints(folder)]
    names = [cell_name(manifest) for manifest in manifests]
    cells = cells_of(found, manifests, names)
    swept = Swept(
        found=found,
        cells=cells,
        effects=effects_of(found, cells),
        losses={name: manifest.losses.get("validation") for name, manifest in zip(names, manifests, strict=True)},
        failed=failed,
    )
    _write(swept, split, out)
    return swept


def causes(failed: dict[str, str]) -> str:
    """Return why trials failed, those of one cause together."""
    by_cause: dict[str, list[str]] = {}
    for name, why in failed.items():
        by_cause.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_cause.items())


def _write(swept: Swept, split: str, out: Path) -> None:
    base = Figures(swept.found.results).find(swept.base_row, "jaccard")["value"]
    with artefacts.whole_or_absent(out / "sweep.csv") as new:
        lines(swept).write_csv(new)
    with artefacts.whole_or_absent(out / "sweep.svg") as new:
        new.write_text(picture(swept.cells, base, split), "utf-8")
    with artefacts.whole_or_absent(out / "sweep.md") as new:
        new.write_text(text(swept), "utf-8")


def lines(swept: Swept) -> pl.DataFrame:
    """Return every cell, seed `all`, with its seeds under it; provenance is the digest of per_visit.parquet."""
    figures, digest = Figures(swept.found.results), swept.found.about["per_visit_sha256"]
    rows: list[dict[str, Any]] = []
    for cell in swept.cells:
        about = {"method": cell.method, "rank": cell.rank, "step": cell.step}
        facts = {"scaling": cell.scaling, "step_size": cell.step_size}
        pooled = {"validation_loss": cell.loss.value, "validation_loss_sd": cell.loss.sd}
        for metric in METRICS:
            it = cell.scores[metric]
            pooled |= {metric: it.value, f"{metric}_lo": it.lo, f"{metric}_hi": it.hi, f"{metric}_sd": it.sd}
        rows.append({**about, "seed": "all", "row": None, **facts, **pooled, "per_visit_sha256": digest})
        for seed, row in cell.rows.items():
            alone: dict[str, Any] = {"validation_loss": swept.losses[row], "validation_loss_sd": None}
            for metric in METRICS:
                line = figures.find(row, metric)
                alone |= {metric: line["value"], f"{metric}_lo": line["lo"], f"{metric}_hi": line["hi"]}
                alone[f"{metric}_sd"] = None
            rows.append({**about, "seed": str(seed), "row": row, **facts, **alone, "per_visit_sha256": digest})
    return pl.DataFrame(rows, infer_schema_length=None)
