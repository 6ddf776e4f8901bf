"""Every row of the table drafted, counted and scored: checkpoints through the served recommender, and what they face.

    RUNS/evaluation-SPLIT/
      predictions/     every row's drafts, with the model's own words; reused while they fit
      per_visit.parquet   the drafts counted against the truth, `evaluation/visits.py`
      results.csv      every figure, `evaluation/results.py`
      evaluation.json  what was asked, of whom, and what rows say about each other, `evaluation/findings.py`
      table.md         the same to read

The folder holds patients' data; results.csv, evaluation.json and table.md hold counts and shares of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts, kept
from etl.cohort import read_cohort, read_samples
from etl.drug_vocabulary import read_drug_vocabulary
from etl.errors import ConfigError
from evaluation import selection
from evaluation.findings import find
from evaluation.interactions import read_interactions
from evaluation.ladder import Projection
from evaluation.predict import cell_name
from evaluation.probes import PROBES
from evaluation.results import Redrawn, tabulate
from evaluation.rows import Asked, Drafting, Told
from evaluation.visits import Truth

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was found.

    Attributes:
        folder: where it is written.
        about: the content of evaluation.json.
        results: every figure.
        visits: the per-visit table.
        samples: the admissions, in its order.
    """

    folder: Path
    about: dict[str, Any]
    results: pl.DataFrame
    visits: pl.DataFrame
    samples: pl.DataFrame

    @property
    def selected(self) -> str:
        """The checkpoint chosen on validation."""
        return str(self.about["selected"])

    def drafts(self, cell: str) -> pl.DataFrame:
        """Return a checkpoint's drafts."""
        return pl.read_parquet(self.folder / "predictions" / f"{cell}.parquet")


def evaluate(
    runs: Path | Sequence[Path],
    cohort: Path | None,
    split: str,
    out: Path,
    asked: Asked | None = None,
    *,
    base: str | None = None,
    told: Told = lambda row, done, total: None,
) -> Evaluation:
    """Score every checkpoint below `runs`, and the rows beside them, on one split of the cohort they were trained on.

    Args:
        runs: folder of `rxdraft train` or `rxdraft sweep`, or one checkpoint; or several of these.
        cohort: folder of `rxdraft etl`; None: where the runs say it lay.
        split: train, validation or test.
        out: folder to write, see the head of this file; drafts that fit are reused.
        asked: what else.
        base: where the base lies now; None: where the manifests say.
        told: told (row, admissions drafted so far, all).

    Raises:
        ContractError: no checkpoint, or cohort and checkpoints do not belong together.
        ConfigError: the split has no admission, or what is asked for cannot be.
    """
    asked = asked or Asked()
    asked.check()
    checkpoints = selection.find_all(runs)
    folder = cohort or selection.recorded_cohort(checkpoints[0][0])
    digest = selection.check_cohort(folder, checkpoints)
    settings = read_cohort(folder).get("settings", {})
    if asked.oracle is not None:
        selection.check_oracle(settings)
    samples = read_samples(folder, split)
    if samples.is_empty():
        raise ConfigError(f"split {split} of {folder} has no admission")
    selected = selection.choose(checkpoints)
    vocabulary = read_drug_vocabulary(folder / "drug_map.csv" if (folder / "drug_map.csv").is_file() else None)
    interactions = read_interactions(vocabulary, asked.interactions)
    formulary = pl.read_parquet(folder / "formulary.parquet")["drug"].to_list()
    truth = Truth(samples, formulary, Projection(vocabulary), interactions)
    for probe in (name for name in PROBES if name in asked.rows):
        PROBES[probe](samples)  # what cannot be altered is said before hours of drafting, not after
    origin = {"cohort_sha256": digest, "split": split}
    drafting = Drafting(folder, samples, formulary, out / "predictions", origin, base, told)
    cells = drafting.cells(checkpoints)
    chosen = cells[cell_name(selected[1])]
    counted, rows = [], []
    for drafted in drafting.rows(checkpoints, cells, selected, asked):
        counted.append(truth.count(drafted, chosen))
        rows.append({**asdict(drafted.row), **truth.facts(drafted)})
    visits = pl.concat(counted)
    about: dict[str, Any] = {
        "format": FORMAT,
        "split": split,
        "cohort_sha256": digest,
        "settings": settings,
        "admissions": samples.height,
        "patients": samples["subject_id"].n_unique(),
        "formulary": len(formulary),
        "interactions_sha256": interactions.digest,
        "selected": cell_name(selected[1]),
        "matched_lengths": asked.matched_lengths,
        "rows": rows,
        "checkpoints": {cell_name(m): selection.describe(path, m) for path, m in checkpoints},
        "redrawn": asdict(asked.redrawn),
    }
    return finish(out, about, visits, samples, asked.redrawn)


def finish(
    out: Path, about: dict[str, Any], visits: pl.DataFrame, samples: pl.DataFrame, redrawn: Redrawn
) -> Evaluation:
    """Write the per-visit table and what follows from it; evaluation.json is there only once all is.

    Args:
        out: the evaluation's folder.
        about: what was asked, of whom; where checkpoints lie decides nothing and stays out of the table's origin.
        visits: the per-visit table.
        samples: the admissions, in its order.
        redrawn: how patients are redrawn.
    """
    (out / "evaluation.json").unlink(missing_ok=True)
    placeless = {name: {**found, "path": None} for name, found in about["checkpoints"].items()}
    kept.write(out / "per_visit.parquet", visits, {**about, "checkpoints": placeless})
    about = {**about, "per_visit_sha256": artefacts.sha256_file(out / "per_visit.parquet")}
    results = tabulate(visits, about["per_visit_sha256"], redrawn)
    about |= find(visits, about, redrawn)
    with artefacts.whole_or_absent(out / "results.csv") as new:
        results.write_csv(new)
    artefacts.write_json(out / "evaluation.json", about)
    return Evaluation(out, about, results, visits, samples)
