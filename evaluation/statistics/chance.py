"""What another patient's list scores, and how far above it a model stands.

On coarse classes any two patients' lists look alike, so a score there means little before chance is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.ladder import Class, Rule, distinct
from evaluation.statistics.ratios import Floats, Ratio


def skill(score: Ratio, chance: Floats) -> Ratio:
    """Return (m - c) / (1 - c): 0 is chance, 1 is perfect, below 0 is worse than another patient's list.

    Args:
        chance: (visits,), of the same visits, rung, rule and measure; see `random_copy`. NaN: left out.
    """
    return Ratio(np.nan_to_num(score.num - score.den * chance), np.nan_to_num(score.den * (1 - chance)))


class Chance(NamedTuple):
    """What the whole list of a random other patient scores at each visit, (visits,); NaN without another patient."""

    precision: Floats
    recall: Floats
    f1: Floats


def random_copy(truths: Sequence[Sequence[Class]], subject_id: Sequence[int], rule: Rule = Rule.ONE_TO_ONE) -> Chance:
    """Return the exact expectation over the lists of all other patients' visits.

    An overlap is a sum over classes, so lists of one length are counted class by class, not pair by pair; only the
    visits of one patient are met in pairs, to be left out.

    Args:
        truths: each visit's ordered drugs at one rung; an empty one scores 0 and, as a copy, gives 0.
        subject_id: (visits,).
    """
    tokens = [_tokens(classes, rule) for classes in truths]
    lengths = np.array([len(classes) if rule is Rule.ONE_TO_ONE else distinct(classes) for classes in truths])
    total = _overlaps_with_all(tokens, lengths)
    own, visits = _overlaps_with_own(tokens, lengths, subject_id)
    others = len(tokens) - visits
    expected = np.divide(total - own, others, out=np.full(total.shape, np.nan), where=others > 0)
    return Chance(*expected)


def _tokens(classes: Sequence[Class], rule: Rule) -> set[tuple[str, int]]:
    """Return the first, second, ... of each class as sets whose intersection has the size of the match."""
    seen: dict[str, int] = {}
    for one in classes:
        if one is not None:
            seen[one] = seen.get(one, 0) + 1
    return {(one, i) for one, n in seen.items() for i in range(n if rule is Rule.ONE_TO_ONE else 1)}


def _weights(copied: Floats, given: Floats) -> Floats:
    """Return what one shared token is worth in precision, recall and F1, (3, ...), by the two lists' lengths."""
    copied, given = np.broadcast_arrays(copied, given)
    return np.stack([1 / np.maximum(copied, 1), 1 / np.maximum(given, 1), 2 / np.maximum(copied + given, 1)])


def _overlaps_with_all(tokens: Sequence[set[tuple[str, int]]], lengths: Floats) -> Floats:
    """Return the summed scores of copying each visit's list, its own included, (3, visits)."""
    index = {token: i for i, token in enumerate(sorted(set().union(*tokens)))}
    sizes, size = np.unique(lengths, return_inverse=True)
    lists_with = np.zeros((len(sizes), len(index)))
    rows = [np.fromiter((index[token] for token in held), dtype=int, count=len(held)) for held in tokens]
    for k, row in zip(size, rows, strict=True):
        lists_with[k, row] += 1
    worth = _weights(sizes[None, :], sizes[:, None]) @ lists_with  # (3, given length, token)
    return np.array([worth[:, k, row].sum(axis=1) for k, row in zip(size, rows, strict=True)]).reshape(-1, 3).T


def _overlaps_with_own(
    tokens: Sequence[set[tuple[str, int]]], lengths: Floats, subject_id: Sequence[int]
) -> tuple[Floats, Floats]:
    """Return the part of it that comes from the patient's own visits, (3, visits), and how many these are."""
    own: dict[int, list[int]] = {}
    for visit, patient in enumerate(subject_id):
        own.setdefault(patient, []).append(visit)
    sums, visits = np.zeros((3, len(tokens))), np.zeros(len(tokens))
    for stays in own.values():
        shared = np.array([[len(tokens[given] & tokens[copied]) for copied in stays] for given in stays])
        sums[:, stays] = (_weights(lengths[None, stays], lengths[stays, None]) * shared).sum(axis=2)
        visits[stays] = len(stays)
    return sums, visits
