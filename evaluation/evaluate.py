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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl import artefacts, kept
from etl.cohort import read_cohort, read_samples
from etl.domain import Split
from etl.drug_vocabulary import read_drug_vocabulary
from etl.errors import ConfigError, ContractError
from etl.prompts import Outcome
from evaluation.drafts import Drafted, Kind, Row, draft_baselines, draft_oracle, draft_votes
from evaluation.findings import find
from evaluation.interactions import read_interactions
from evaluation.ladder import Projection
from evaluation.lengths import matched_lengths
from evaluation.predict import cell_name, predict
from evaluation.probes import PROBES
from evaluation.results import Redrawn, tabulate
from evaluation.strategies.drafts import predict_strategies
from evaluation.strategies.strategy import Strategy
from evaluation.visits import Truth
from serving.baselines.design import read_visits
from serving.baselines.fit import NAMES as BASELINES
from training.manifest import Manifest, find_checkpoints, read_manifest

FORMAT = 1
BASE = "base"
SERVED = "constrained"
"""The checkpoint chosen on validation as it is served: no drug but the formulary's, none twice."""
ROWS = (SERVED, *BASELINES, BASE, *PROBES)
"""Rows beside the checkpoints, all of them asked for by default."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an evaluation is asked for beside checkpoints and samples.

    Attributes:
        rows: of ROWS.
        oracle: oracle.parquet of a synthetic hospital, for a row that nobody can beat.
        strategies: further rows, of the checkpoint chosen on validation and its base.
        interactions: CSV of interacting drugs; None: the shipped one.
        redrawn: how patients are redrawn.
    """

    rows: Sequence[str] = ROWS
    oracle: Path | None = None
    strategies: Sequence[Strategy] = ()
    interactions: Path | None = None
    redrawn: Redrawn = field(default_factory=Redrawn)

    def check(self) -> None:
        """See that every row is one.

        Raises:
            ConfigError: some are not; all of them are named.
        """
        if unknown := [row for row in self.rows if row not in ROWS]:
            raise ConfigError(f"--rows has {', '.join(unknown)}, wanted some of {', '.join(ROWS)}")


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
    checkpoints = _checkpoints(runs)
    folder = cohort or _recorded_cohort(checkpoints[0][0])
    digest = _check_cohort(folder, checkpoints)
    settings = read_cohort(folder).get("settings", {})
    if asked.oracle is not None:
        _check_oracle(settings)
    samples = read_samples(folder, split)
    if samples.is_empty():
        raise ConfigError(f"split {split} of {folder} has no admission")
    selected = min(checkpoints, key=_validation_loss)
    vocabulary = read_drug_vocabulary(folder / "drug_map.csv" if (folder / "drug_map.csv").is_file() else None)
    interactions = read_interactions(vocabulary, asked.interactions)
    formulary = pl.read_parquet(folder / "formulary.parquet")["drug"].to_list()
    truth = Truth(samples, formulary, Projection(vocabulary), interactions)
    for probe in (name for name in PROBES if name in asked.rows):
        PROBES[probe](samples)  # what cannot be altered is said before hours of drafting, not after
    drafting = _Drafting(
        folder, samples, formulary, out / "predictions", {"cohort_sha256": digest, "split": split}, base
    )
    cells = predict(checkpoints, samples, drafting.origin, drafting.folder, base, told)
    chosen = cells[cell_name(selected[1])]
    counted, rows = [], []
    for drafted in drafting.rows(checkpoints, cells, selected, asked, told):
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
        "rows": rows,
        "checkpoints": {cell_name(m): _describe(path, m) for path, m in checkpoints},
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


@dataclass(frozen=True, slots=True)
class _Drafting:
    """What all rows are drafted from."""

    cohort: Path
    samples: pl.DataFrame
    formulary: list[str]
    folder: Path
    origin: dict[str, str]
    base: str | None

    def rows(
        self,
        checkpoints: Sequence[tuple[Path, Manifest]],
        cells: dict[str, pl.DataFrame],
        selected: tuple[Path, Manifest],
        asked: Asked,
        told: Told,
    ) -> Iterator[Drafted]:
        """Return row after row, in the table's order; all but the checkpoints' cells are drafted here."""
        for _, manifest in checkpoints:
            name = cell_name(manifest)
            yield Drafted(Row(name, Kind.CHECKPOINT, manifest.rank, manifest.step), cells[name])
        yield from self._served(selected, asked.rows, told)
        yield from self._strategies(selected[0], asked, told)
        yield from self._probes(selected, asked.rows, told)
        yield from self._baselines(
            [name for name in BASELINES if name in asked.rows], cells[cell_name(selected[1])], told
        )
        if asked.oracle is not None:
            yield draft_oracle(asked.oracle, self.samples, self.formulary)

    def _served(self, selected: tuple[Path, Manifest], rows: Sequence[str], told: Told) -> Iterator[Drafted]:
        if SERVED in rows:
            folder, renamed = self.folder / SERVED, partial(_renamed, told, SERVED)
            found = predict([selected], self.samples, self.origin, folder, self.base, renamed, raw=False)
            [drafts] = found.values()
            yield Drafted(Row(SERVED, Kind.PRODUCT), drafts)

    def _strategies(self, checkpoint: Path, asked: Asked, told: Told) -> Iterator[Drafted]:
        alone = [Strategy.model_validate({"name": "zero-shot", "on": [BASE]})] if BASE in asked.rows else []
        wanted = [*alone, *(strategy for strategy in asked.strategies if not (alone and strategy.is_served))]
        if not wanted:
            return
        training = read_samples(self.cohort, Split.TRAIN)
        found = predict_strategies(
            wanted, checkpoint, self.samples, training, self.origin, self.folder, self.base, told
        )
        for name, drafts in found.items():
            yield draft_votes(Row(name, Kind.STRATEGY), drafts, self.formulary)

    def _probes(self, selected: tuple[Path, Manifest], rows: Sequence[str], told: Told) -> Iterator[Drafted]:
        for name, alter in PROBES.items():
            if name in rows:
                origin, renamed = {**self.origin, "probe": name}, partial(_renamed, told, name)
                [drafts] = predict(
                    [selected], alter(self.samples), origin, self.folder / name, self.base, renamed
                ).values()
                yield Drafted(Row(name, Kind.PROBE), drafts)

    def _baselines(self, names: Sequence[str], matched: pl.DataFrame, told: Told) -> Iterator[Drafted]:
        if not names:
            return
        training, validation = (
            read_visits(read_samples(self.cohort, s), self.formulary) for s in (Split.TRAIN, Split.VALIDATION)
        )
        given = [
            len(drugs) if Outcome(outcome).well_formed else None
            for drugs, outcome in zip(matched["drugs"], matched["outcome"], strict=True)
        ]
        lengths = matched_lengths(given, otherwise=round(float(np.median(training.lengths))))
        visits = read_visits(self.samples, self.formulary)
        for drafted in draft_baselines(
            names, training, validation, self.samples, visits, lengths, self.cohort / "baselines"
        ):
            told(drafted.row.name, self.samples.height, self.samples.height)
            kept.write(self.folder / f"{drafted.row.name}.parquet", drafted.drafts, self.origin)
            yield drafted


def _renamed(told: Told, name: str, cell: str, done: int, total: int) -> None:
    told(name, done, total)


def _validation_loss(checkpoint: tuple[Path, Manifest]) -> tuple[float, int]:
    """Return what the checkpoint to go on with has the least of; of equal losses the latest."""
    loss = checkpoint[1].losses.get("validation")
    return inf if loss is None else loss, -checkpoint[1].step


def _checkpoints(runs: Path | Sequence[Path]) -> list[tuple[Path, Manifest]]:
    folders = [runs] if isinstance(runs, Path) else runs
    checkpoints = [(path, read_manifest(path)) for folder in folders for path in find_checkpoints(folder)]
    checkpoints.sort(key=lambda found: (found[1].rank, found[1].step))
    if not checkpoints:
        raise ContractError(f"{', '.join(map(str, folders))} holds no checkpoint; train one with `rxdraft train`")
    by_name: dict[str, list[str]] = {}
    for path, manifest in checkpoints:
        by_name.setdefault(cell_name(manifest), []).append(str(path))
    twins = [f"{name}: {', '.join(paths)}" for name, paths in by_name.items() if len(paths) > 1]
    if twins:
        raise ContractError(f"one row, several checkpoints ({'; '.join(twins)}); give --runs a folder with one of each")
    return checkpoints


def _recorded_cohort(checkpoint: Path) -> Path:
    run = artefacts.read_json(checkpoint.parent / "run.json", "rxdraft train")
    return Path(run["cohort"])


def _check_cohort(folder: Path, checkpoints: Sequence[tuple[Path, Manifest]]) -> str:
    """Return the cohort's digest, having seen that all checkpoints were trained on it."""
    found = artefacts.sha256_file(folder / "cohort.json")
    if other := {m.cohort_sha256[:12]: cell_name(m) for _, m in checkpoints if m.cohort_sha256 != found}:
        trained = ", ".join(f"{name} was trained on {digest}" for digest, name in other.items())
        raise ContractError(
            f"{folder} is cohort {found[:12]}; {trained}, "
            "so its test patients may be known to them; give the cohort they were trained on with --data"
        )
    return found


def _check_oracle(settings: dict[str, Any]) -> None:
    """See that the cohort's answers are what the oracle knows the chances of: a whole stay's drugs, by name."""
    known = {"level": "drug", "within_hours": None}
    other = [f"{name} {settings[name]}" for name, value in known.items() if settings.get(name, value) != value]
    other += ["predict_at 24h"] if settings.get("predict_at") == "24h" else []
    if other:
        raise ConfigError(
            f"the oracle knows the drugs of whole stays by name, the cohort has {', '.join(other)}; leave --oracle out"
        )


def _describe(path: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "path": str(path),
        "method": manifest.method,
        "seed": manifest.config.get("seed", 0),
        "scaling": manifest.scaling,
        "losses": manifest.losses,
        "weights_sha256": manifest.weights_sha256,
        "base_sha256": manifest.base_sha256,
    }
