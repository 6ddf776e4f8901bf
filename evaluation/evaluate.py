"""The rank x step table: every checkpoint scored through the served recommender, with baselines under it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.cohort import read_cohort, read_samples
from etl.errors import ConfigError, ContractError
from etl.prompts import Outcome
from evaluation import baselines
from evaluation.metrics import Scores, count, score
from evaluation.predict import cell_name, predict
from training.manifest import Manifest, find_checkpoints, read_manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cell:
    """A checkpoint's row: who it is, how it scored, and what it drafted."""

    name: str
    manifest: Manifest
    scores: Scores
    predictions: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Table:
    """All that the printed table says.

    Attributes:
        split: which part of the cohort was scored.
        cells: by rank and step.
        baselines: by name, at the list lengths of `matched_to`.
        matched_to: the cell whose lengths the baselines got: that of the lowest validation loss, else the last.
        samples: the admissions scored, in order.
    """

    split: str
    cells: list[Cell]
    baselines: dict[str, Scores]
    matched_to: str
    samples: pl.DataFrame


def evaluate(
    runs: Path,
    cohort: Path | None,
    split: str,
    out: Path,
    *,
    base: str | None = None,
    oracle: Path | None = None,
    on_drafts: Callable[[str, int, int], None] = lambda cell, done, total: None,
) -> Table:
    """Score every checkpoint below `runs` on one split of the cohort it was trained on.

    Args:
        runs: folder of `rxdraft train`, or one checkpoint.
        cohort: folder of `rxdraft etl`; None: where the runs say it lay.
        split: train, validation or test.
        out: gets predictions/CELL.parquet, reused while they fit.
        base: where the base lies now; None: where the manifests say.
        oracle: oracle.parquet of a synthetic hospital, for a row that nobody can beat.
        on_drafts: told (cell, admissions drafted so far, all).

    Raises:
        ContractError: no checkpoint, or cohort and checkpoints do not belong together.
        ConfigError: the split has no admission.
    """
    checkpoints = [(path, read_manifest(path)) for path in find_checkpoints(runs)]
    if not checkpoints:
        raise ContractError(f"{runs} holds no checkpoint; train one with `rxdraft train`")
    _check_names(checkpoints)
    folder = cohort or _recorded_cohort(checkpoints[0][0])
    settings = read_cohort(folder).get("settings", {})
    found = artefacts.sha256_file(folder / "cohort.json")
    if other := {m.cohort_sha256[:12]: cell_name(m) for _, m in checkpoints if m.cohort_sha256 != found}:
        trained = ", ".join(f"{name} was trained on {digest}" for digest, name in other.items())
        raise ContractError(
            f"{folder} is cohort {found[:12]}; {trained}, "
            "so its test patients may be known to them; give the cohort they were trained on with --data"
        )
    if oracle is not None:
        _check_oracle(settings)
    samples = read_samples(folder, split)
    if samples.is_empty():
        raise ConfigError(f"split {split} of {folder} has no admission")
    predictions = predict(
        checkpoints, samples, {"cohort_sha256": found, "split": split}, out / "predictions", base, on_drafts
    )
    formulary = pl.read_parquet(folder / "formulary.parquet")["drug"].to_list()
    cells = [
        Cell(cell_name(m), m, _score_cell(predictions[cell_name(m)], samples, formulary), predictions[cell_name(m)])
        for _, m in checkpoints
    ]
    matched = min(cells, key=lambda cell: (cell.manifest.losses.get("validation") or 0.0, -cell.manifest.step))
    usual = read_samples(folder, "train")["drugs"].list.len().median()
    rows = _score_baselines(samples, formulary, matched, round(usual), oracle)  # type: ignore[arg-type]
    return Table(split, cells, rows, matched.name, samples)


def _check_names(checkpoints: Sequence[tuple[Path, Manifest]]) -> None:
    by_name: dict[str, list[str]] = {}
    for path, manifest in checkpoints:
        by_name.setdefault(cell_name(manifest), []).append(str(path))
    twins = [f"{name}: {', '.join(paths)}" for name, paths in by_name.items() if len(paths) > 1]
    if twins:
        raise ContractError(f"one row, several checkpoints ({'; '.join(twins)}); give --runs a folder with one of each")


def _recorded_cohort(checkpoint: Path) -> Path:
    run = artefacts.read_json(checkpoint.parent / "run.json", "rxdraft train")
    return Path(run["cohort"])


def _score_cell(predictions: pl.DataFrame, samples: pl.DataFrame, formulary: Sequence[str]) -> Scores:
    if predictions["hadm_id"].to_list() != samples["hadm_id"].to_list():
        raise ContractError("predictions and samples are of different admissions; remove the predictions")
    known = frozenset(formulary)
    return score(
        [
            count(drugs, truth, Outcome(outcome), known)
            for drugs, outcome, truth in zip(
                predictions["drugs"], predictions["outcome"], samples["drugs"], strict=True
            )
        ]
    )


def _score_baselines(
    samples: pl.DataFrame, formulary: Sequence[str], matched: Cell, usual: int, oracle: Path | None
) -> dict[str, Scores]:
    answers = zip(matched.predictions["drugs"], matched.predictions["outcome"], strict=True)
    given = [len(drugs) if Outcome(outcome).well_formed else None for drugs, outcome in answers]
    lengths = baselines.matched_lengths(given, otherwise=usual)
    truths = samples["drugs"].to_list()
    lists = {
        "popularity": [baselines.popularity(formulary, length) for length in lengths],
        "previous admission": [
            baselines.previous_admission(previous, formulary, length)
            for previous, length in zip(samples["previous_drugs"].to_list(), lengths, strict=True)
        ],
    }
    if oracle is not None:
        lists["oracle"] = _oracle_lists(oracle, samples)
    return {
        name: score([count(p, t) for p, t in zip(rows, truths, strict=True)], baseline=True)
        for name, rows in lists.items()
    }


def _check_oracle(settings: dict[str, Any]) -> None:
    """See that the cohort's answers are what the oracle knows the chances of: a whole stay's drugs, by name."""
    known = {"level": "drug", "within_hours": None}
    other = [f"{name} {settings[name]}" for name, value in known.items() if settings.get(name, value) != value]
    other += ["predict_at 24h"] if settings.get("predict_at") == "24h" else []
    if other:
        raise ConfigError(
            f"the oracle knows the drugs of whole stays by name, the cohort has {', '.join(other)}; leave --oracle out"
        )


def _oracle_lists(path: Path, samples: pl.DataFrame) -> list[list[str]]:
    try:
        known = pl.read_parquet(path).join(samples.select("hadm_id"), on="hadm_id", how="semi")
    except (OSError, pl.exceptions.PolarsError):
        raise ContractError(f"{path} is not the oracle.parquet of `rxdraft synth`") from None
    by_stay = {hadm_id: (drugs, chances) for hadm_id, drugs, chances in known.iter_rows()}
    missing = sum(hadm_id not in by_stay for hadm_id in samples["hadm_id"])
    if missing:
        raise ContractError(f"{path} knows nothing of {missing} admissions; it is another hospital's")
    return [baselines.oracle(*by_stay[hadm_id]) for hadm_id in samples["hadm_id"]]
