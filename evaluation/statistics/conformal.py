"""Where a list of votes is cut so that the next patient is promised a recall, or few false positives.

The promise holds on average over patients like those the cut was set on, whatever the votes are worth: a bad model
pays with long lists, not with broken promises. It says nothing about one patient, or about another hospital.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.statistics.calibration import Levels
from evaluation.statistics.ratios import Floats, divide


@dataclass(frozen=True, slots=True)
class Cut:
    """A vote threshold with a promise for the next patient.

    Attributes:
        threshold: draft the drugs with at least this share of the votes.
        risk: the loss of the patients it was set on, on average.
        bound: what the expected loss of the next patient stays below, (n risk + worst loss) / (n + 1).
        drugs: mean length of the lists that it leaves.
        patients: n.
    """

    threshold: float
    risk: float
    bound: float
    drugs: float
    patients: int


def cut_for_recall(votes: Levels, subject_id: ArrayLike, alpha: float) -> Cut | None:
    """Return the shortest lists whose recall, a patient's visits averaged, is expected to be 1 - alpha or more.

    Args:
        votes: of patients whom no other choice has used; a visit without an ordered drug loses nothing.
        subject_id: (visits,).

    Returns:
        The cut; None where even every drug voted for does not do, or too few patients are known to promise it.

    Source: Angelopoulos et al., Conformal Risk Control, ICLR 2024.
    """
    ordered = votes.y.sum(axis=1, keepdims=True)
    found = _at_least(votes.p, votes.y)
    missed = 1 - divide(found, np.broadcast_to(ordered, found.shape), undefined=1.0)
    return max(_cuts(votes, missed, subject_id, 1.0, alpha), key=lambda cut: cut.threshold, default=None)


def cut_for_false_positives(votes: Levels, subject_id: ArrayLike, most: float, worst: float) -> Cut | None:
    """Return the longest lists that are expected to hold at most `most` drugs that are not ordered.

    Args:
        votes, subject_id: see `cut_for_recall`.
        worst: the most false positives that are counted in a list, such as the longest list served; a large one
            asks for many patients.

    Returns:
        The cut; None where not even the drugs with all votes do, or too few patients are known to promise it.
    """
    wrong = np.minimum(_at_least(votes.p, votes.n - votes.y), worst)
    return min(_cuts(votes, wrong, subject_id, worst, most), key=lambda cut: cut.threshold, default=None)


def _at_least(p: Floats, counts: Floats) -> Floats:
    """Return how many drugs have each positive level or a higher one, (visits, positive levels)."""
    return np.asarray(counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, p > 0])


def _cuts(votes: Levels, losses: Floats, subject_id: ArrayLike, worst: float, most: float) -> list[Cut]:
    """Return the cuts whose corrected loss is at most `most`."""
    _, patient, visits = np.unique(np.asarray(subject_id), return_inverse=True, return_counts=True)
    weight = 1 / visits[patient] / len(visits)  # each patient counts once
    lengths = _at_least(votes.p, votes.n).mean(axis=0)
    risks = weight @ losses
    bounds = (len(visits) * risks + worst) / (len(visits) + 1)
    rows = zip(votes.p[votes.p > 0], risks, bounds, lengths, strict=True)
    return [Cut(float(p), float(r), float(b), float(n), len(visits)) for p, r, b, n in rows if b <= most]
