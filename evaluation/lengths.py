"""How long a baseline's lists are, and the oracle of a synthetic hospital, which nobody can beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def matched_lengths(lengths: Sequence[int | None], otherwise: int) -> list[int]:
    """Return the list length a baseline gets per admission.

    Args:
        lengths: the model's; None where its answer was no list: its mean length stands in.
        otherwise: what stands in where no answer at all was a list.
    """
    given = [length for length in lengths if length is not None]
    usual = round(sum(given) / len(given)) if given else otherwise
    return [usual if length is None else length for length in lengths]


def best_length(chances: Sequence[float]) -> int:
    """Return how many of the likeliest drugs maximise the expected Jaccard of the list, exactly.

    With independent chances the k likeliest are the best k, as both factors below say: tp of the list and the
    number m of ordered drugs missed by it are independent, so E[tp / (k + m)] = E[tp] · E[1 / (k + m)].

    Args:
        chances: of being ordered, descending, in [0, 1].
    """
    chance = np.asarray(chances, dtype=float)
    missed = np.array([1.0])  # distribution of m, for the list of all drugs
    best, best_value = 0, float(np.prod(1 - chance))  # an empty list is right where nothing is ordered
    for k in range(len(chance), 0, -1):
        value = chance[:k].sum() * (missed / (k + np.arange(len(missed)))).sum()
        if value >= best_value:
            best, best_value = k, value
        missed = np.append(missed * (1 - chance[k - 1]), 0) + np.append(0, missed * chance[k - 1])
    return best


def oracle(drugs: Sequence[str], chances: Sequence[float]) -> list[str]:
    """Return the list nobody can beat in expected Jaccard: it knows the chance of every drug."""
    return list(drugs[: best_length(chances)])
