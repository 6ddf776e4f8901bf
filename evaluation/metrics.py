"""What a score means: every metric of the table is a sum over a sum of a row's per-visit counts.

T is the set of drugs ordered in the stay, P the set drafted, tp = |P ∩ T|; an answer that is no list drafts nothing
and counts 0 wherever all visits are asked for. `evaluation/visits.py` tells what the columns are,
`evaluation/conventions.py` how others average the same counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from evaluation.statistics import calibration
from evaluation.statistics.ratios import Floats, Ratio, divide, mean, ratio

RARITIES = 6
"""Drugs by how often training has them: never, then fifths of the formulary from the rarest to the commonest."""


class Unit(StrEnum):
    """How a value is written."""

    SHARE = "share"
    SCORE = "score"
    DRUGS = "drugs"


class Over(StrEnum):
    """The estimand: whose mean it is."""

    ALL = "all visits, no list counts 0"
    FORMED = "visits with a list"
    ITEMS = "drafted drugs, pooled"
    SOME = "visits where it is defined"


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the table.

    Attributes:
        name: in files.
        title: in print.
        of: the counts of one row's visits, summed over a sum.
        higher: better if True, worse if False; None: neither.
    """

    name: str
    title: str
    unit: Unit
    over: Over
    of: Callable[[pl.DataFrame], Ratio]
    higher: bool | None = None


def scores(visits: pl.DataFrame, rung: str = "drug") -> dict[str, Floats]:
    """Return precision, recall, F1 and Jaccard of each visit, (visits,); nothing drafted rightly is 1, no list 0."""
    p, t, tp = (visits[f"{name}_{rung}"].to_numpy().astype(float) for name in ("p", "t", "tp"))
    rightly_none = visits["well_formed"].to_numpy() & (p + t == 0)
    found = {
        "accuracy_all": divide(tp, p),
        "recall": divide(tp, t),
        "f1": divide(2 * tp, p + t),
        "jaccard": divide(tp, p + t - tp),
    }
    return {name: np.where(rightly_none, 1.0, np.nan_to_num(score)) for name, score in found.items()}


def _score(name: str, rung: str = "drug") -> Callable[[pl.DataFrame], Ratio]:
    return lambda visits: mean(scores(visits, rung)[name])


def _accuracy(visits: pl.DataFrame) -> Ratio:
    """The reference's: mean precision of the lists that name a drug; |P| is 0 where there is no list."""
    return mean(divide(visits["tp_drug"], visits["p_drug"]))


def _formed(column: Callable[[pl.DataFrame], pl.Series]) -> Callable[[pl.DataFrame], Ratio]:
    """Average over the visits with a list."""
    return lambda visits: mean(np.where(visits["well_formed"], column(visits).cast(pl.Float64), np.nan))


def _share(part: str, whole: str) -> Callable[[pl.DataFrame], Ratio]:
    return lambda visits: ratio(visits[part], visits[whole])


def _each(part: str, whole: str) -> Callable[[pl.DataFrame], Ratio]:
    return lambda visits: mean(divide(visits[part], visits[whole]))


def _rare(bucket: int) -> Callable[[pl.DataFrame], Ratio]:
    return lambda visits: ratio(visits["rare_tp"].list.get(bucket), visits["rare_t"].list.get(bucket))


def _brier(visits: pl.DataFrame) -> Ratio:
    return ratio(visits["brier_sum"].fill_null(0), visits["brier_n"].fill_null(0))


def _ece(visits: pl.DataFrame) -> Ratio:
    """Sum the bins' gaps, each on the side it lies on: that is their sizes' sum, and patients can be redrawn.

    The interval takes the sides for known, so that a redraw's noise does not count as miscalibration.
    """
    binned = calibration.equal_mass(calibration.levels(visits))
    gaps = binned.y - binned.p  # (visits, bins)
    return ratio(gaps @ np.sign(gaps.sum(axis=0)), binned.n.sum(axis=1))


def _changed(visits: pl.DataFrame) -> Ratio:
    """Tell other drugs than the selected checkpoint's, or a list on one side only."""
    same = (visits["shared"] == visits["p_drug"]) & (visits["shared"] == visits["beside"])
    return mean(~(same & (visits["well_formed"] == visits["beside_formed"])))


def _overlap(visits: pl.DataFrame) -> Ratio:
    """Average the Jaccard with the selected checkpoint's list: 0 if one is no list, undefined if neither is."""
    both = divide(visits["shared"], visits["p_drug"] + visits["beside"] - visits["shared"], undefined=1.0)
    lists = visits["well_formed"].cast(pl.Int8) + visits["beside_formed"].cast(pl.Int8)
    return mean(np.select([lists == 2, lists == 1], [both, 0.0], np.nan))


def _exact(visits: pl.DataFrame) -> Ratio:
    same = (visits["tp_drug"] == visits["p_drug"]) & (visits["tp_drug"] == visits["t_drug"])
    return mean(same & visits["well_formed"])


METRICS = (
    Metric("output_rate", "output rate", Unit.SHARE, Over.ALL, lambda visits: mean(visits["well_formed"]), True),
    Metric("accuracy", "accuracy", Unit.SHARE, Over.FORMED, _accuracy, True),
    Metric("accuracy_all", "accuracy, all", Unit.SHARE, Over.ALL, _score("accuracy_all"), True),
    Metric("recall", "recall", Unit.SHARE, Over.ALL, _score("recall"), True),
    Metric("f1", "F1", Unit.SCORE, Over.ALL, _score("f1"), True),
    Metric("jaccard", "Jaccard", Unit.SCORE, Over.ALL, _score("jaccard"), True),
    Metric("prauc", "PRAUC", Unit.SCORE, Over.SOME, lambda visits: mean(visits["average_precision"]), True),
    Metric("exact", "exact list", Unit.SHARE, Over.ALL, _exact, True),
    Metric("drugs", "drugs", Unit.DRUGS, Over.FORMED, _formed(lambda visits: visits["p_drug"])),
    Metric("length_bias", "drugs too many", Unit.DRUGS, Over.FORMED, _formed(lambda v: v["p_drug"] - v["t_drug"])),
    Metric(
        "length_error",
        "length error",
        Unit.DRUGS,
        Over.FORMED,
        _formed(lambda v: (v["p_drug"] - v["t_drug"]).abs()),
        False,
    ),
    Metric("repeats", "repeated", Unit.SHARE, Over.ITEMS, _share("repeats", "items"), False),
    Metric("unknown", "invented", Unit.SHARE, Over.ITEMS, _share("unknown", "items"), False),
    Metric("off_formulary", "off formulary", Unit.SHARE, Over.ITEMS, _share("off_formulary", "items"), False),
    Metric(
        "same_class",
        "same ATC-4, pairs a visit",
        Unit.DRUGS,
        Over.FORMED,
        _formed(lambda visits: visits["same_class_pairs"]),
        False,
    ),
    Metric("changed", "other list than selected", Unit.SHARE, Over.ALL, _changed),
    Metric("overlap", "Jaccard with selected", Unit.SCORE, Over.SOME, _overlap),
    Metric("continued", "continued", Unit.SHARE, Over.SOME, _each("continued_tp", "continued_t"), True),
    Metric("started", "new starts", Unit.SHARE, Over.SOME, _each("started_tp", "started_t"), True),
    Metric("stopped", "stopped", Unit.SHARE, Over.SOME, _each("stopped_right", "stopped"), True),
    Metric("recall_never", "recall, never in training", Unit.SHARE, Over.SOME, _rare(0), True),
    *(
        Metric(f"recall_fifth_{fifth}", f"recall, fifth {fifth}", Unit.SHARE, Over.SOME, _rare(fifth), True)
        for fifth in range(1, RARITIES)
    ),
    Metric("brier", "Brier", Unit.SCORE, Over.SOME, _brier, False),
    Metric("ece", "ECE", Unit.SCORE, Over.SOME, _ece, False),
)
"""Every metric at the rung of drug names; `evaluation/ladder.py` climbs from there."""

BY_NAME = {metric.name: metric for metric in METRICS}
