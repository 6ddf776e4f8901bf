"""Baselines by name, fitted on the training admissions alone."""

from __future__ import annotations

from pathlib import Path

from etl.errors import ConfigError
from serving.baselines.baseline import Baseline
from serving.baselines.copies import Previous, Random
from serving.baselines.design import Visits
from serving.baselines.frequencies import NearestNeighbours, Popularity, PopularityByCategory, PopularityByChapter
from serving.baselines.logistic import Logistic, LogisticHistory
from serving.baselines.pooled import Pooled

_SIMPLE: dict[str, type[Baseline]] = {
    kind.name: kind
    for kind in (Random, Popularity, PopularityByChapter, PopularityByCategory, Previous, NearestNeighbours)
}
_REGRESSIONS: dict[str, type[Logistic] | type[Pooled]] = {
    kind.name: kind for kind in (Logistic, LogisticHistory, Pooled)
}

NAMES = (*_SIMPLE, *_REGRESSIONS)
"""In the order of a table's rows."""


def check_name(name: str) -> None:
    """See that there is a baseline of this name.

    Raises:
        ConfigError: there is none; those there are, are named.
    """
    if name not in NAMES:
        raise ConfigError(f"baseline {name} is unknown, wanted one of {', '.join(NAMES)}")


def fit(name: str, training: Visits, validation: Visits | None = None, keep: Path | None = None) -> Baseline:
    """Fit a baseline.

    Args:
        name: one of NAMES.
        training: visits of the training split; at least one.
        validation: visits to choose the cut on; None, or empty: lists have the median length of training.
        keep: folder that keeps what takes long to fit; None: none does.

    Raises:
        ConfigError: the name is unknown, or there is nothing to learn from.
    """
    check_name(name)
    if not training.admissions:
        raise ConfigError("the training split has no admission; a baseline has nothing to learn from")
    baseline = _SIMPLE[name](training) if name in _SIMPLE else _REGRESSIONS[name](training, keep)
    if validation is not None:
        baseline.choose_cut(validation)
    return baseline
