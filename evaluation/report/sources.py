"""All that a report is made of: the evaluation's folder, and what lies outside of it and may be gone tomorrow.

What lies outside (training logs, manifest, cohort.json, a reference table, a review) is copied into report.json, in
part, so that a report can be made again, to the same bytes, without it.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.errors import ConfigError, ContractError
from evaluation.evaluate import FORMAT, Evaluation
from evaluation.figures import training_of
from evaluation.judge.appropriateness import CARD, FOLDER, PARITY_FOLDER, Appropriateness, read_appropriateness
from evaluation.results import SCHEMA, Redrawn
from training.manifest import read_manifest

MADE_BY = "rxdraft evaluate"
REFERENCE_COLUMNS = ("rank", "steps", "output_rate", "accuracy", "appropriateness")
CURVE_POINTS = 30

_JSON = dict[str, Any]
_OF_COHORT = ("source", "settings", "seed", "splits", "flow", "orders", "diagnoses", "drugs", "audit", "versions")
_OF_MANIFEST = (
    *(
        "base",
        "base_sha256",
        "objective",
        "method",
        "alpha",
        "scaling",
        "targets",
        "frozen",
        "steps",
        "trainable_parameters",
    ),
    *("weights_sha256", "prompt_version", "max_length", "max_answer_tokens", "samples", "shortened", "config"),
    "versions",
)


@dataclass(frozen=True, slots=True)
class Judge:
    """One protocol's figures with the card they cannot be printed without.

    Attributes:
        rows: by name of the row.
        card: the content of judge-card.json.
        card_id: first digits of its digest.
    """

    rows: dict[str, Appropriateness]
    card: _JSON
    card_id: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What a report is made of.

    Attributes:
        evaluation: without the samples, which no report shows.
        judge, parity: None where nobody was asked.
        outside: see `read_outside`.
    """

    evaluation: Evaluation
    judge: Judge | None
    parity: Judge | None
    outside: _JSON

    @property
    def redrawn(self) -> Redrawn:
        """How patients were redrawn."""
        return Redrawn(**self.evaluation.about["redrawn"])


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `rxdraft evaluate` wrote.

    Raises:
        ContractError: it is unfinished, of another version, or its per-visit table is not the one it was made from.
    """
    about = artefacts.read_json(folder / "evaluation.json", MADE_BY)
    if about.get("format") != FORMAT:
        raise ContractError(f"{folder} has format {about.get('format')}, wanted {FORMAT}; run `{MADE_BY}` again")
    for name in ("per_visit.parquet", "results.csv"):
        if not (folder / name).is_file():
            raise ContractError(f"{folder / name} is missing; run `{MADE_BY}` again")
    found = artefacts.sha256_file(folder / "per_visit.parquet")
    if found != about["per_visit_sha256"]:
        raise ContractError(
            f"{folder / 'per_visit.parquet'} is {found[:12]}, evaluation.json was made from "
            f"{about['per_visit_sha256'][:12]}; run `{MADE_BY}` again"
        )
    try:
        results = pl.read_csv(folder / "results.csv", schema=SCHEMA)
    except pl.exceptions.PolarsError:
        raise ContractError(f"{folder / 'results.csv'} is not as it was written; run `{MADE_BY}` again") from None
    # polars writes "" for an empty string and nothing for a null, and reads both alike
    results = results.with_columns(pl.col("mark").fill_null(""))
    return Evaluation(folder, about, results, pl.read_parquet(folder / "per_visit.parquet"), pl.DataFrame())


def read_sources(evaluation: Evaluation, outside: _JSON) -> Sources:
    """Add the judge's figures that stand in an evaluation's folder.

    Args:
        evaluation: as `read_evaluation` returns it.
        outside: as `read_outside` returns it, or report.json has kept it.

    Raises:
        ContractError: see `read_appropriateness`.
    """
    return Sources(evaluation, _judge(evaluation.folder, FOLDER), _judge(evaluation.folder, PARITY_FOLDER), outside)


def _judge(folder: Path, name: str) -> Judge | None:
    rows = read_appropriateness(folder, paper_parity=name == PARITY_FOLDER)
    if rows is None:
        return None
    card = folder / name / CARD
    return Judge(rows, artefacts.read_json(card, "rxdraft judge"), artefacts.sha256_file(card)[:12])


# --- what lies outside ---------------------------------------------------------------------------------


def read_outside(evaluation: Evaluation, reference: Path | None, review: Path | None) -> _JSON:
    """Return what is taken from elsewhere, each part None where it is not found: curves, manifest, cohort and more.

    Args:
        evaluation: names the checkpoints, whose folders lead to logs and cohort.
        reference: CSV with REFERENCE_COLUMNS, to be shown beside the table.
        review: folder of `rxdraft review finalize`.

    Raises:
        ConfigError: the reference is not such a table.
        ContractError: the review is not finalized.
    """
    checkpoints = evaluation.about["checkpoints"]
    paths = {name: Path(found["path"]) for name, found in checkpoints.items()}
    selected = paths[evaluation.selected]
    manifest = asdict(read_manifest(selected)) if (selected / "manifest.json").is_file() else None
    return {
        "curves": _curves(evaluation.about, paths),
        "manifest": manifest and {**{name: manifest[name] for name in _OF_MANIFEST}, "base": _name(manifest["base"])},
        "cohort": _cohort(selected.parent / "run.json", evaluation.about["cohort_sha256"]),
        "reference": read_reference(reference) if reference else None,
        "review": _review(review) if review else None,
    }


def _name(base: str) -> str:
    """Return a base as the hub calls it; of a folder its name alone, since where it lay is nobody else's business."""
    return base if base.count("/") <= 1 and not base.startswith(("/", ".", "~")) else Path(base).name


def _curves(about: _JSON, paths: dict[str, Path]) -> _JSON:
    """Return losses by rank, or by `training_of`, as [step, loss]; those of training smoothed to CURVE_POINTS means."""
    curves: _JSON = {}
    for row in about["rows"]:
        if row["rank"] is None:
            continue
        curve = curves.setdefault(training_of(row, about), {"train": _log(paths[row["name"]].parent), "validation": []})
        if (loss := about["checkpoints"][row["name"]]["losses"].get("validation")) is not None:
            curve["validation"].append([row["step"], loss])
    return curves


def _log(run: Path) -> list[list[float]]:
    """Return mean loss, see `Manifest.losses`, of equal stretches of a run's log, each with its last step."""
    path = run / "log.jsonl"
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.endswith("}")]
    stretch = max(1, -(-len(lines) // CURVE_POINTS))
    points = []
    for start in range(0, len(lines), stretch):
        part = lines[start : start + stretch]
        tokens = sum(line["response_tokens"] for line in part)
        if tokens:
            points.append([part[-1]["step"], sum(x["loss"] * x["response_tokens"] for x in part) / tokens])
    return points


def _cohort(run: Path, digest: str) -> _JSON | None:
    """Return the parts of cohort.json that a report quotes, if it still lies where the run found it."""
    if not run.is_file():
        return None
    path = Path(artefacts.read_json(run, "rxdraft train")["cohort"]) / "cohort.json"
    if not path.is_file() or artefacts.sha256_file(path) != digest:
        return None
    cohort = artefacts.read_json(path, "rxdraft etl")
    found = {name: cohort[name] for name in _OF_COHORT if name in cohort}
    statistics = cohort.get("statistics", {})
    return found | {name: statistics[name] for name in ("table_one", "missing") if name in statistics}


def read_reference(path: Path) -> list[_JSON]:
    """Read another's table, cells as shares from 0 to 1.

    Raises:
        ConfigError: it cannot be read, lacks a column, or has a cell that is no such number; all are named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ConfigError(f"cannot read {path} as a CSV in UTF-8; give --reference one") from None
    if missing := [name for name in REFERENCE_COLUMNS if not lines or name not in lines[0]]:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; wanted the columns {', '.join(REFERENCE_COLUMNS)}")
    found, problems = [], []
    for number, line in enumerate(lines, start=2):
        try:
            row = {"rank": int(line["rank"]), "steps": int(line["steps"])}
            shares = {name: float(line[name]) if line[name] else None for name in REFERENCE_COLUMNS[2:]}
        except (TypeError, ValueError):
            problems.append(f"line {number} has a cell that is no number")
            continue
        if any(share is not None and not 0 <= share <= 1 for share in shares.values()):
            problems.append(f"line {number} has a share outside of 0 to 1")
        found.append(row | shares)
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}; correct the file")
    return found


def _review(folder: Path) -> _JSON:
    gold = artefacts.read_json(folder / "gold.json", "rxdraft review finalize")
    return {name: gold[name] for name in ("counts", "agreement", "tripod_llm", "gold_sha256")}
