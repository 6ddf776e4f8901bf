"""What rows say about each other: who is better and how surely, for whom, and whether chances are true.

Everything follows from the per-visit table, with the same redrawn patients as the figures. The checkpoint chosen on
validation is the one declared before the test split was looked at; all others are measured against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from evaluation.drafts import SERVED, Kind
from evaluation.metrics import scores
from evaluation.results import Redrawn, by_row, metric_draws
from evaluation.statistics import calibration
from evaluation.statistics.bootstrap import Draws, draw
from evaluation.statistics.comparisons import (
    against,
    best,
    clustering,
    combine,
    effects,
    failure_bounds,
    paired,
    simultaneous,
    smallest_detectable,
)
from evaluation.statistics.conformal import cut_for_false_positives, cut_for_recall
from evaluation.statistics.ratios import Floats, mean
from evaluation.statistics.subgroups import MINIMUM, STRATA, columns, groups

RECALL = 0.7
FALSE_POSITIVES = 5
LONGEST = 50
"""What the next patient is promised by a cut set on this split, and the most wrong drugs counted in one list."""

PRIMARY = ("jaccard", "accuracy_all")
"""The scores that rows are compared on; both are over all visits."""

FOR_LISTS = ("f1", "jaccard")
"""The scores on which lists of any length may be compared: neither is better for saying little."""
REFERENCES = ("popularity", "pooled")
"""Who every row is held against: what needs no patient, and the strongest of what needs no language model."""

_JSON = dict[str, Any]


def find(visits: pl.DataFrame, about: _JSON, redrawn: Redrawn) -> _JSON:
    """Return the findings, as evaluation.json holds them.

    Args:
        visits: the per-visit table.
        about: rows and the selected checkpoint.
        redrawn: how patients are redrawn.
    """
    cells = [row for row in about["rows"] if row["kind"] == Kind.CHECKPOINT]
    others = [row["name"] for row in about["rows"] if row["kind"] != Kind.CHECKPOINT]
    selected = by_row(visits)[about["selected"]]
    return {
        "comparisons": {
            metric: _compare(visits, metric, cells, others, about["selected"], redrawn) for metric in PRIMARY
        },
        "less_references": {metric: _less_references(visits, metric, about["rows"], redrawn) for metric in FOR_LISTS},
        "served_less_baselines": {metric: _served(visits, metric, about["rows"], redrawn) for metric in FOR_LISTS},
        "clustering": _clustering(selected),
        "failure_bounds": _bounds(visits, [cell["name"] for cell in cells], redrawn),
        "subgroups": {metric: _subgroups(selected, metric, redrawn) for metric in PRIMARY},
        "calibration": _calibrations(visits, about["rows"], redrawn),
    }


def _compare(
    visits: pl.DataFrame, metric: str, cells: list[_JSON], others: list[str], selected: str, redrawn: Redrawn
) -> _JSON:
    names = [cell["name"] for cell in cells]
    drawn = metric_draws(visits, metric, names, redrawn)
    beside = metric_draws(visits, metric, [selected, *others], redrawn)
    first = best(drawn)
    at = names.index(selected)
    rivals = [name for name in names if name != selected]
    return {
        "checkpoints_less_selected": _family(rivals, drawn, against(len(names), at)),
        "where_both_gave_a_list": _where_both(visits, metric, rivals, selected, redrawn),
        "selected_less_others": _family(others, beside, -against(len(others) + 1, 0)),
        "effects": _effects(drawn, cells),
        "best": first
        and {
            "row": names[first.index],
            "raw": first.raw,
            "corrected": first.corrected,
            "tied": [name for name, tied in zip(names, first.tied, strict=True) if tied],
            "chance_of_first": dict(zip(names, first.chance.tolist(), strict=True)),
        },
        "smallest_detectable": _detectable(drawn, at),
    }


def _less_references(visits: pl.DataFrame, metric: str, rows: list[_JSON], redrawn: Redrawn) -> _JSON:
    """Return every other row less each reference, by reference; each is a family of its own."""
    names = [row["name"] for row in rows]
    drawn = metric_draws(visits, metric, names, redrawn)
    return {
        reference: _family(
            [name for name in names if name != reference], drawn, against(len(names), names.index(reference))
        )
        for reference in REFERENCES
        if reference in names
    }


def _served(visits: pl.DataFrame, metric: str, rows: list[_JSON], redrawn: Redrawn) -> list[_JSON]:
    """Return the recommender that a user gets less each baseline and the oracle; empty without such a row."""
    names = [row["name"] for row in rows]
    rivals = [row["name"] for row in rows if row["kind"] in (Kind.BASELINE, Kind.ORACLE)]
    if SERVED not in names or not rivals:
        return []
    drawn = metric_draws(visits, metric, [SERVED, *rivals], redrawn)
    return _family(rivals, drawn, -against(len(rivals) + 1, 0))


def _family(names: Sequence[str], drawn: Draws, weights: Floats) -> list[_JSON]:
    if not names:
        return []
    family = simultaneous(combine(drawn, weights))
    fields = ("point", "se", "lo", "hi", "p", "holm")
    return [
        {"row": name, **{field: _number(getattr(family, field)[i]) for field in fields}, "mark": str(family.mark[i])}
        for i, name in enumerate(names)
    ]


def _where_both(visits: pl.DataFrame, metric: str, rivals: list[str], selected: str, redrawn: Redrawn) -> list[_JSON]:
    """Return each checkpoint less the selected one over the visits that both answered with a list."""
    if not rivals:
        return []
    subjects, score, formed = _by_visit(visits, metric, [*rivals, selected])
    pairs = [(i, len(rivals)) for i in range(len(rivals))]
    found = paired(subjects, score, formed, pairs, draws=redrawn.draws, seed=redrawn.seed)
    drawn = found.both.intervals()
    return [
        {
            "row": name,
            "visits": int(found.both_formed[i]),
            **{end: _number(getattr(drawn, end)[i]) for end in ("point", "lo", "hi")},
            "mark": str(drawn.mark[i]),
        }
        for i, name in enumerate(rivals)
    ]


def _by_visit(visits: pl.DataFrame, metric: str, names: Sequence[str]) -> tuple[Any, Floats, Any]:
    """Return whose visits they are, and the rows' scores and whether they gave a list, (visits, rows) each."""
    every = by_row(visits)
    tables = [every[name] for name in names]
    score = np.stack([scores(table)[metric] for table in tables], axis=1)
    formed = np.stack([table["well_formed"].to_numpy() for table in tables], axis=1)
    return tables[0]["subject_id"].to_numpy(), score, formed


def _effects(drawn: Draws, cells: list[_JSON]) -> list[_JSON]:
    """Return the effects of rank and step; steps count in epochs where they are multiples of one number."""
    weights = effects([cell["rank"] for cell in cells], _epochs([cell["step"] for cell in cells]))
    if not weights or len(cells) < 2:
        return []
    found = combine(drawn, np.stack(list(weights.values()))).intervals()
    return [
        {"effect": name, "point": _number(found.point[i]), "lo": _number(found.lo[i]), "hi": _number(found.hi[i])}
        for i, name in enumerate(weights)
    ]


def _epochs(steps: list[int]) -> list[float]:
    """Return steps in units of their greatest common divisor, an epoch where checkpoints are written at epochs."""
    unit = int(np.gcd.reduce(steps)) or 1
    return [step / unit for step in steps]


def _detectable(drawn: Draws, reference: int) -> float | None:
    """Return the median difference to the selected checkpoint that this many patients would show."""
    if len(drawn.point) < 2:
        return None
    found = smallest_detectable(combine(drawn, against(len(drawn.point), reference)).se())
    return _number(np.nanmedian(found)) if not np.isnan(found).all() else None


def _clustering(selected: pl.DataFrame) -> _JSON | None:
    found = clustering(selected["subject_id"], scores(selected)["jaccard"])
    return asdict(found) if found else None


def _bounds(visits: pl.DataFrame, names: list[str], redrawn: Redrawn) -> list[_JSON]:
    """Return where Jaccard lies if an answer that is no list might have been any list."""
    subjects, score, formed = _by_visit(visits, "jaccard", names)
    lower, upper = failure_bounds(subjects, score, formed, draws=redrawn.draws, seed=redrawn.seed)
    ends = lower.intervals().lo, upper.intervals().hi
    return [
        {
            "row": name,
            "lower": _number(lower.point[i]),
            "upper": _number(upper.point[i]),
            "lo": _number(ends[0][i]),
            "hi": _number(ends[1][i]),
        }
        for i, name in enumerate(names)
    ]


def _subgroups(selected: pl.DataFrame, metric: str, redrawn: Redrawn) -> _JSON:
    """Return the selected checkpoint's score by group; groups of under 20 patients are hidden."""
    score, subjects = mean(scores(selected)[metric]), selected["subject_id"].to_numpy()
    return {stratum: _stratum(score, selected[stratum].to_list(), subjects, redrawn) for stratum in STRATA}


def _stratum(score: Any, labels: list[object], subjects: Any, redrawn: Redrawn) -> list[_JSON]:
    found, cut = groups(score, labels, subjects, MINIMUM), columns(score, labels)
    drawn = draw(subjects, cut.num, cut.den, draws=redrawn.draws, seed=redrawn.seed).intervals()
    ends = {name: (_number(drawn.lo[i]), _number(drawn.hi[i])) for i, name in enumerate(cut.names)}
    return [
        {
            "group": group.name,
            "patients": group.patients,
            "visits": group.visits,
            "estimate": group.estimate,
            "lo": None if group.hidden else ends[group.name][0],
            "hi": None if group.hidden else ends[group.name][1],
            "gap": group.gap,
            "shrunken": group.shrunken,
            "hidden": group.hidden,
            "worst": group.worst,
        }
        for group in found
    ]


def _calibrations(visits: pl.DataFrame, rows: list[_JSON], redrawn: Redrawn) -> _JSON:
    """Return how true the probabilities are, of each row that gives some."""
    tables = by_row(visits)
    return {
        row["name"]: {
            str(universe): _calibration(tables[row["name"]], universe, redrawn) for universe in calibration.Universe
        }
        for row in rows
        if tables[row["name"]]["level_p"].count()
    }


def _calibration(table: pl.DataFrame, universe: calibration.Universe, redrawn: Redrawn) -> _JSON:
    levels = calibration.levels(table, universe)
    binned, parts = calibration.equal_mass(levels), calibration.decompose(levels)
    band = draw(table["subject_id"], binned.y, binned.n, draws=redrawn.draws, seed=redrawn.seed).intervals()
    least, fewest = cut_for_recall(levels, table["subject_id"], 1 - RECALL), None
    if universe is calibration.Universe.FORMULARY:
        fewest = cut_for_false_positives(levels, table["subject_id"], FALSE_POSITIVES, worst=LONGEST)
    return {
        "cuts": {
            f"recall of {RECALL:.0%}": asdict(least) if least else None,
            f"at most {FALSE_POSITIVES} wrong drugs": asdict(fewest) if fewest else None,
        },
        "brier": calibration.brier(levels).value,
        "decomposition": parts and parts._asdict(),
        "ece": calibration.ece(binned),
        "debiased_ece": calibration.debiased_ece(binned),
        "in_the_large": calibration.in_the_large(levels).value,
        "reliability": [
            {"p": p, "y": y, "n": n, "lo": _number(band.lo[i]), "hi": _number(band.hi[i])}
            for i, (p, y, n) in enumerate(binned.points)
        ],
    }


def _number(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
