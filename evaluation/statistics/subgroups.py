"""Scores by group of patients: estimates, gaps, the worst group, and none that tells of a few patients.

Every group is a mask on the same per-visit numbers, so that one set of redrawn patients serves all of them. A
patient whose race or age band changes between stays counts in each group with the stays spent there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.statistics.ratios import Floats, Ratio

MINIMUM = 20
"""Patients behind a number that is shown."""

STRATA = ("sex", "age_band", "race", "admission_type", "icd_chapter", "drugs_quartile", "history")
UNKNOWN = "unknown"
_NO_SPREAD = 1e-9
"""Standard errors up to here are rounding: all visits scored the same, which says nothing of how sure that is."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group's score.

    Attributes:
        name: the stratum's value.
        patients, visits: behind it; None where they are hidden.
        estimate: None where it is hidden or undefined; so are all below.
        error: its standard error, patients drawn with their visits.
        gap: the estimate minus that of all other visits of the stratum.
        shrunken: pulled to the overall score, the more the less is known of the group.
        hidden: too few patients, or so that those of another group cannot be told by subtraction.
        worst: the lowest estimate of those shown.
    """

    name: str
    patients: int | None
    visits: int | None
    estimate: float | None
    error: float | None
    gap: float | None
    shrunken: float | None
    hidden: bool = False
    worst: bool = False


class Columns(NamedTuple):
    """A score cut by group: the input of a cluster bootstrap, one column a group.

    Attributes:
        names: of the columns, sorted.
        num, den: (visits, groups), 0 outside the group.
        rest_num, rest_den: (visits, groups), 0 inside it; resampled with the others they give the gap's interval.
    """

    names: list[str]
    num: Floats
    den: Floats
    rest_num: Floats
    rest_den: Floats


def columns(score: Ratio, labels: Sequence[object]) -> Columns:
    """Cut a score by a stratum.

    Args:
        labels: (visits,), the stratum's values; None is a group of its own.
    """
    names, member = _members(labels)
    num, den = score.num[:, None], score.den[:, None]
    return Columns(names, num * member, den * member, num * ~member, den * ~member)


def groups(score: Ratio, labels: Sequence[object], subject_id: ArrayLike, minimum: int = MINIMUM) -> list[Group]:
    """Score every group of a stratum, the largest first, the hidden last.

    Args:
        labels, subject_id: (visits,).
        minimum: patients behind a number that is shown; 0 shows all.
    """
    cut, patients = columns(score, labels), np.asarray(subject_id)
    member = _members(labels)[1]
    scored = [
        Group(
            name=name,
            patients=len(np.unique(patients[member[:, i]])),
            visits=int(member[:, i].sum()),
            estimate=(estimate := Ratio(cut.num[:, i], cut.den[:, i]).value),
            error=cluster_error(Ratio(cut.num[:, i], cut.den[:, i]), patients),
            gap=_difference(estimate, Ratio(cut.rest_num[:, i], cut.rest_den[:, i]).value),
            shrunken=None,
        )
        for i, name in enumerate(cut.names)
    ]
    whose = {name: frozenset(patients[member[:, i]].tolist()) for i, name in enumerate(cut.names)}
    shown = _mark_worst(suppress(_shrink(scored, score.value), whose, minimum))
    return sorted(shown, key=lambda group: (group.hidden, -(group.visits or 0), group.name))


def cluster_error(score: Ratio, subject_id: ArrayLike) -> float | None:
    """Return a score's standard error with patients as clusters, by linearisation; None below two patients.

    sqrt(G / (G - 1) Σ_g (num_g - score den_g)²) / Σ den, over the G patients that have a visit that counts.
    """
    value = score.value
    _, patient = np.unique(np.asarray(subject_id), return_inverse=True)
    num, den = np.bincount(patient, score.num), np.bincount(patient, score.den)
    number = int((den > 0).sum())
    if value is None or number < 2:
        return None
    spread = ((num - value * den) ** 2)[den > 0].sum()
    return float(np.sqrt(number / (number - 1) * spread) / den.sum())


def suppress(scored: Sequence[Group], whose: Mapping[str, frozenset[int]], minimum: int = MINIMUM) -> list[Group]:
    """Hide groups of few patients, and what they could be told from.

    What is hidden is what is left of the total, so the next smallest group goes too until `minimum` patients are
    hidden together: a single one never is. A patient of several groups counts once.

    Args:
        scored: all groups of a stratum.
        whose: the patients of each, by name.
        minimum: patients behind a number that is shown.
    """
    by_size = sorted(scored, key=lambda group: (group.patients or 0, group.name))
    hidden = [group for group in by_size if (group.patients or 0) < minimum]
    for group in by_size[len(hidden) :]:
        if not hidden or len(frozenset[int]().union(*(whose[one.name] for one in hidden))) >= minimum:
            break
        hidden.append(group)
    names = {group.name for group in hidden}
    return [_hide(group) if group.name in names else group for group in scored]


def _hide(group: Group) -> Group:
    return Group(group.name, None, None, None, None, None, None, hidden=True)


def _members(labels: Sequence[object]) -> tuple[list[str], NDArray[np.bool_]]:
    named = [UNKNOWN if label is None else str(label) for label in labels]
    names = sorted(set(named))
    return names, np.array(named, dtype=object)[:, None] == np.array(names, dtype=object)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _mark_worst(scored: Sequence[Group]) -> list[Group]:
    shown = [group.estimate for group in scored if group.estimate is not None]
    lowest = min(shown) if len(shown) > 1 else None
    return [replace(group, worst=group.estimate is not None and group.estimate == lowest) for group in scored]


def _shrink(scored: Sequence[Group], overall: float | None) -> list[Group]:
    """Return each estimate as w m_g + (1 - w) m̄ with w = τ² / (τ² + se_g²); None where its error is unknown.

    Source: τ² between groups as DerSimonian and Laird, Control Clin Trials 1986;7:177.
    """
    known = [group for group in scored if group.estimate is not None and (group.error or 0) > _NO_SPREAD]
    between = _variance_between(
        np.array([group.estimate for group in known], dtype=float), np.array([group.error for group in known])
    )

    def shrunken(group: Group) -> float | None:
        if group.estimate is None or overall is None or group.error is None:
            return None
        weight = between / (between + group.error**2) if between else 0.0
        return weight * group.estimate + (1 - weight) * overall

    return [replace(group, shrunken=shrunken(group)) for group in scored]


def _variance_between(estimates: Floats, errors: Floats) -> float:
    if len(estimates) < 2:
        return 0.0
    precision = errors**-2.0
    centre = precision @ estimates / precision.sum()
    excess = precision @ (estimates - centre) ** 2 - (len(estimates) - 1)
    return float(max(0.0, excess / (precision.sum() - precision @ precision / precision.sum())))
