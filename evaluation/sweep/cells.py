"""Cells of a sweep, a method, rank and step each, averaged over the seeds; and what the rank does to Jaccard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.drafts import Kind
from evaluation.evaluate import Evaluation
from evaluation.metrics import BY_NAME, Unit
from evaluation.results import Redrawn, metric_draws
from evaluation.statistics.bootstrap import Draws, Floats
from evaluation.sweep.pooling import Pooled, pool, spread
from training.advice import rank_sets_step
from training.manifest import Manifest

METRICS = ("jaccard", "f1", "recall", "accuracy", "output_rate", "drugs")
"""What is averaged over seeds; every other figure of every seed is in results.csv."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A method, rank and step, over its seeds.

    Attributes:
        method, rank, step, scaling: of its checkpoints.
        rows: the evaluation's row of each seed.
        rank_sets_step: another rank takes steps of another size, see `training.advice.rank_sets_step`.
        loss: validation loss, see `Manifest.losses`.
        scores: by metric.
    """

    method: str
    rank: int
    step: int
    scaling: float
    rows: dict[int, str]
    rank_sets_step: bool
    loss: Pooled
    scores: dict[str, Pooled]

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return f"{self.method}, rank {self.rank}, step {self.step:,}"

    @property
    def step_size(self) -> float:
        """s² r, see `training.sweep.grid.step_size`."""
        return self.scaling**2 * self.rank


@dataclass(frozen=True, slots=True)
class Effect:
    """How much higher a rank's Jaccard is than the lowest rank's, seed by seed, mean over the steps of both."""

    method: str
    rank: int
    lowest: int
    difference: Pooled


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found.

    Attributes:
        found: the evaluation of all checkpoints.
        cells: by method, rank and step.
        effects: of the rank.
        losses: validation loss of every row.
        failed: why, by trial.
    """

    found: Evaluation
    cells: list[Cell]
    effects: list[Effect]
    losses: dict[str, float | None]
    failed: dict[str, str]

    @property
    def chosen(self) -> Cell | None:
        """The cell to go on with."""
        return chosen(self.cells)

    @property
    def base_row(self) -> str:
        """The evaluation's row of the base alone."""
        return next(str(row["name"]) for row in self.found.about["rows"] if row["kind"] == Kind.STRATEGY)


def cells_of(found: Evaluation, manifests: Sequence[Manifest], names: Sequence[str]) -> list[Cell]:
    """Return the cells of an evaluation, by method, rank and step.

    Args:
        found: of the sweep's checkpoints.
        manifests: of the checkpoints.
        names: of their rows, in the same order.
    """
    grouped: dict[tuple[str, int, int], dict[int, tuple[str, Manifest]]] = {}
    for name, manifest in zip(names, manifests, strict=True):
        key = (manifest.method, manifest.rank, manifest.step)
        grouped.setdefault(key, {})[int(manifest.config["seed"])] = (name, manifest)
    drawn = {metric: metric_draws(found.visits, metric, list(names), _redrawn(found)) for metric in METRICS}
    cells = []
    for (method, rank, step), seeds in sorted(grouped.items()):
        at = [names.index(name) for name, _ in seeds.values()]
        weights = np.eye(len(names))[at]
        manifest = next(iter(seeds.values()))[1]
        cells.append(
            Cell(
                method=method,
                rank=rank,
                step=step,
                scaling=manifest.scaling,
                rank_sets_step=rank_sets_step(method, manifest.config["optimizer"], manifest.config["scaling"]),
                rows={seed: name for seed, (name, _) in sorted(seeds.items())},
                loss=spread([manifest.losses.get("validation") for _, manifest in seeds.values()]),
                scores={metric: pool(drawn[metric], weights, _top(metric)) for metric in METRICS},
            )
        )
    return cells


def effects_of(found: Evaluation, cells: Sequence[Cell]) -> list[Effect]:
    """Return each higher rank's Jaccard less the lowest's, of the same method, over the seeds and steps of both."""
    names = [name for cell in cells for name in cell.rows.values()]
    drawn = metric_draws(found.visits, "jaccard", names, _redrawn(found))
    by_rank: dict[str, dict[int, dict[tuple[int, int], int]]] = {}
    for cell in cells:
        rows = by_rank.setdefault(cell.method, {}).setdefault(cell.rank, {})
        rows |= {(seed, cell.step): names.index(name) for seed, name in cell.rows.items()}
    return [
        Effect(method, rank, min(ranks), _difference(drawn, ranks[rank], ranks[min(ranks)]))
        for method, ranks in by_rank.items()
        for rank in sorted(ranks)
        if ranks[rank].keys() & ranks[min(ranks)].keys() and rank > min(ranks)
    ]


def _difference(drawn: Draws, high: dict[tuple[int, int], int], low: dict[tuple[int, int], int]) -> Pooled:
    """Return one rank less another; both are the columns of `drawn`, by seed and step."""
    common = high.keys() & low.keys()
    one = np.eye(len(drawn.point))
    weights: list[Floats] = [
        np.mean([one[high[key]] - one[low[key]] for key in common if key[0] == seed], axis=0)
        for seed in sorted({seed for seed, _ in common})
    ]
    return pool(drawn, np.stack(weights), None)


def chosen(cells: Sequence[Cell]) -> Cell | None:
    """Return the cell of the lowest mean validation loss: validation decides, whatever split is tabled."""
    known = [cell for cell in cells if cell.loss.value is not None]
    return min(known, key=lambda cell: (cell.loss.value, -cell.step)) if known else None


def _redrawn(found: Evaluation) -> Redrawn:
    return Redrawn(**found.about["redrawn"])


def _top(metric: str) -> tuple[float, float] | None:
    return None if BY_NAME[metric].unit is Unit.DRUGS else (0.0, 1.0)
