"""From what `--model` names to what drafts: a checkpoint or a baseline. Light: a model loads when it is called for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.recommendation import Drafter

MODEL = Annotated[
    Path,
    typer.Option(help="Checkpoint made by `rxdraft train`: the folder with manifest.json. Or baseline:NAME."),
]
DATA = Annotated[Path | None, typer.Option(help="Cohort that a baseline learns from: folder of `rxdraft etl`.")]
K = Annotated[
    int | None,
    typer.Option(
        "--k",
        min=1,
        help="Lists drawn to vote on the drugs: as many as calibrated for, or 1: the likeliest list, no probabilities.",
    ),
]
BASE = Annotated[str | None, typer.Option(help="Where the base lies now, if not where training had it.")]


def loader(model: Path, base: str | None, data: Path | None, k: int | None = None) -> Callable[[], Drafter]:
    """Return what loads a checkpoint or fits a baseline, once it is clear that it is there.

    Raises:
        ConfigError: the options do not belong together, or there is no such baseline.
        ContractError: there is no such checkpoint or cohort.
    """
    from etl.errors import ConfigError
    from serving.baselines.service import baseline_name

    name = baseline_name(model)
    if name is not None and k is not None:
        raise ConfigError(f"{model} draws no lists; leave --k out")
    if name is not None and data is not None and base is None:
        return _baseline(name, data)
    if name is not None:
        raise ConfigError(f"{model} learns from a cohort and has no base; give --data, and no --base")
    if data is not None:
        raise ConfigError(f"{model} is no baseline, and --data is what a baseline learns from; leave it out")
    return _checkpoint(model, base, k)


def _baseline(name: str, cohort: Path) -> Callable[[], Drafter]:
    from etl.cohort import read_cohort
    from serving.baselines.service import load_baseline

    read_cohort(cohort)
    return lambda: load_baseline(name, cohort)


def _checkpoint(model: Path, base: str | None, k: int | None) -> Callable[[], Drafter]:
    from training.manifest import read_manifest

    read_manifest(model)

    def load() -> Drafter:
        from serving.recommenders.lists import load_recommenders

        return load_recommenders([model], base, k)[0]

    return load
