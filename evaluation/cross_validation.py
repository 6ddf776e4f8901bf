"""Baselines on one cohort, fold by fold of its patients: the numbers a model has to beat, with their spread.

Every fold fits on the other patients alone. Scores are per visit, averaged within a fold; the spread is the standard
deviation over folds, which is no confidence interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.cohort import SPLITS, read_cohort, read_samples
from etl.errors import ConfigError
from evaluation import demo_reference
from evaluation.conventions import average_precision
from evaluation.markdown import grid
from evaluation.statistics.ratios import Floats, divide
from serving.baselines.baseline import Baseline
from serving.baselines.design import Visits, read_visits
from serving.baselines.fit import NAMES, fit

METRICS = (*demo_reference.METRICS, "drugs")
INNER = 5
"""Parts of a training fold's patients; one chooses the cut for a fit on the others."""


@dataclass(frozen=True, slots=True)
class Row:
    """A baseline over all folds.

    Attributes:
        name: of the baseline.
        folds: a score per fold and metric, (folds, METRICS); NaN where a fold has no visit to score.
        seconds: to fit it once, on average.
    """

    name: str
    folds: Floats
    seconds: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long lists are.

    Attributes:
        rule: "median" of the training lists; "own": as the baseline is served, cut where F1 is highest on patients
            of the training fold that a fit had not seen; "true": as many as were ordered, which nobody knows
            beforehand; or a number.
    """

    rule: str = "median"

    def __post_init__(self) -> None:
        """See that the rule is one.

        Raises:
            ConfigError: it is not.
        """
        if self.rule not in ("median", "own", "true") and not (self.rule.isdecimal() and int(self.rule) > 0):
            raise ConfigError(f"length {self.rule} is unknown, wanted median, own, true or a number from 1")

    def of(self, baseline: Baseline, true: NDArray[np.int64]) -> list[int] | None:
        """Return the length of each visit's list; None: the baseline's own."""
        if self.rule == "own":
            return None
        if self.rule == "true":
            return true.tolist()
        return [baseline.usual_length if self.rule == "median" else int(self.rule)] * len(true)


def read_everyone(cohort: Path) -> pl.DataFrame:
    """Return the samples of all splits, which the folds deal anew.

    Raises:
        ContractError: the folder is no whole cohort of admissions.
    """
    read_cohort(cohort)
    return pl.concat([read_samples(cohort, split) for split in SPLITS]).sort("subject_id", "admittime", "hadm_id")


def cross_validate(
    samples: pl.DataFrame,
    *,
    folds: int = 5,
    shuffles: int = 2,
    seed: int = 0,
    lengths: Lengths | None = None,
    names: Sequence[str] = NAMES,
    with_previous: bool = False,
    told: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """Score baselines on every fold of patients.

    Args:
        samples: rows of samples.parquet, of any splits.
        folds: parts the patients are dealt into; each is scored once per shuffle.
        shuffles: times the patients are dealt anew.
        seed: of the dealing.
        lengths: of the lists; None: the median of training.
        names: of the baselines.
        with_previous: score only visits of patients with a previous admission; all visits train.
        told: how many of folds x shuffles x names are done.

    Raises:
        ConfigError: fewer patients than folds, or fewer than two folds.
    """
    patients = samples["subject_id"].n_unique()
    if not 2 <= folds <= patients:
        raise ConfigError(f"{folds} folds of {patients} patients; wanted from 2 to as many folds as patients")
    lengths, labels = lengths or Lengths(), samples["drugs"].explode().n_unique()
    found: dict[str, list[Floats]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for train, test in _deal(samples, folds, shuffles, seed):
        scored = test.filter(pl.col("previous_drugs").is_not_null()) if with_previous else test
        training = _visits(train)
        for name in names:
            began = time.perf_counter()
            baseline = fit(name, training)
            seconds[name] += time.perf_counter() - began
            if lengths.rule == "own":
                baseline.cut = _inner_cut(name, train, seed)
            found[name].append(_score(baseline, scored, labels, lengths))
            told(sum(map(len, found.values())))
    return [Row(name, np.array(found[name]), seconds[name] / (folds * shuffles)) for name in names]


def _deal(samples: pl.DataFrame, folds: int, shuffles: int, seed: int) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    patients = samples["subject_id"].unique().sort().to_numpy()
    draw = np.random.default_rng(seed)
    for _ in range(shuffles):
        for fold in np.array_split(draw.permutation(patients), folds):
            tested = pl.col("subject_id").is_in(fold.tolist())
            yield samples.filter(~tested), samples.filter(tested)


def _inner_cut(name: str, train: pl.DataFrame, seed: int) -> float | None:
    """Return the cut as serving would choose it, on patients of the training fold; None: the baseline has none.

    The fit that is scored is on the whole fold: it is for the cut alone that patients are kept aside.
    """
    fitted, kept = next(_deal(train, INNER, 1, seed))
    training = _visits(fitted)
    return fit(name, training, read_visits(kept, training.formulary)).cut


def _visits(train: pl.DataFrame) -> Visits:
    counts = train.select(pl.col("drugs").explode()).group_by("drugs").len()
    formulary = counts.sort(["len", "drugs"], descending=[True, False])["drugs"].to_list()
    return read_visits(train, formulary)


def _score(baseline: Baseline, test: pl.DataFrame, labels: int, lengths: Lengths) -> Floats:
    """Return the means over test visits, (METRICS,)."""
    if test.is_empty():
        return np.full(len(METRICS), np.nan)
    visits, truths = read_visits(test, baseline.formulary), test["drugs"].to_list()
    drafts = baseline.recommend(visits.admissions, lengths.of(baseline, visits.lengths))
    drafted = np.array([len(draft.answer.drugs) for draft in drafts])
    hits = np.array([len(set(draft.answer.drugs) & set(truth)) for draft, truth in zip(drafts, truths, strict=True)])
    both = drafted + visits.lengths
    pairs = ((hits, drafted), (hits, visits.lengths), (2 * hits, both), (hits, both - hits))
    per_visit = [*(divide(num, den, 0.0) for num, den in pairs), _prauc(baseline, visits, labels), drafted]
    return np.mean(per_visit, axis=1)


def _prauc(baseline: Baseline, visits: Visits, labels: int) -> Floats:
    """Return each visit's average precision over all labels; those that training did not know score 0."""
    ordered = visits.ordered.toarray() > 0
    unknown = np.arange(labels - ordered.shape[1]) < (visits.lengths - ordered.sum(axis=1))[:, None]
    scores = baseline.scores(visits.admissions)
    return average_precision(np.hstack([ordered, unknown]), np.hstack([scores, np.zeros(unknown.shape)]))


def to_markdown(rows: Sequence[Row], *, beside: bool = False) -> str:
    """Print the rows as mean ± standard deviation over folds.

    Args:
        rows: to print.
        beside: the reference's rows below; they are of the open demo.
    """
    lines = []
    for row in rows:
        *cells, (drugs, sd) = zip(np.nanmean(row.folds, axis=0), np.nanstd(row.folds, axis=0, ddof=1), strict=True)
        lines.append((row.name, *map(_spread, cells), f"{drugs:.1f} ± {sd:.1f}", f"{row.seconds:.2f}"))
    if beside:
        lines += [(f"reference: {name}", *map(_spread, cells), "", "") for name, cells in demo_reference.read().items()]
    return grid(("baseline", *METRICS, "s to fit"), lines)


def _spread(cell: tuple[float, float]) -> str:
    return f"{cell[0]:.3f} ± {cell[1]:.3f}"


def best(rows: Sequence[Row]) -> str:
    """Say which row has the highest Jaccard, and where it stands beside the reference."""
    means = {row.name: np.nanmean(row.folds, axis=0).tolist() for row in rows}
    first = max(means, key=lambda name: float(means[name][METRICS.index("Jaccard")]))
    return demo_reference.verdict(first, means[first][: len(demo_reference.METRICS)])


def describe(samples: pl.DataFrame, folds: int, shuffles: int, lengths: Lengths, with_previous: bool) -> str:
    """Say what the rows are."""
    whose = "scored where a previous admission is known" if with_previous else "all scored"
    return (
        f"{samples.height} admissions of {samples['subject_id'].n_unique()} patients, {whose}; "
        f"{samples['drugs'].explode().n_unique()} drugs. {folds} folds of patients, dealt {shuffles} times; lists of "
        f"length {lengths.rule}. Means over admissions, ± standard deviation over folds, which is no interval."
    )
