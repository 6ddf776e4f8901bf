"""Where a ranked list is cut. Knows probabilities, by drug and admission, and nothing of where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Rule(StrEnum):
    """What a list is cut by."""

    EXPECTED_F1 = "expected_f1"
    """Where F1 is expected to be highest."""
    THRESHOLD = "threshold"
    """No drug less probable than this."""
    FALSE_POSITIVES = "false_positives"
    """As long as no more than so many of its drugs are expected to be wrong."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A rule and its number; a list has at least one drug, since no admission is without.

    Attributes:
        rule: see `Rule`.
        at: the least probability, or the most wrong drugs expected; has no meaning for expected F1.
    """

    rule: Rule = Rule.EXPECTED_F1
    at: float = 0.0

    def __str__(self) -> str:
        """Return the rule in words, with its number where it has one."""
        return {
            Rule.EXPECTED_F1: "best expected F1",
            Rule.THRESHOLD: f"p >= {self.at:g}",
            Rule.FALSE_POSITIVES: f"{self.at:g} wrong expected",
        }[self.rule]

    def length(self, chances: Floats) -> int:
        """Return how many of the most probable drugs one admission's list has; `chances` is (formulary,)."""
        return int(self.lengths(chances[None])[0])

    def lengths(self, chances: Floats) -> Ints:
        """Return the lists' lengths, (admissions,), for probabilities in any order, (admissions, formulary)."""
        falling = -np.sort(-chances, axis=1)
        match self.rule:
            case Rule.EXPECTED_F1:
                return _expected_f1(falling).argmax(axis=1) + 1
            case Rule.THRESHOLD:
                kept = falling >= self.at
            case Rule.FALSE_POSITIVES:
                kept = np.cumsum(1 - falling, axis=1) <= self.at
        return np.asarray(np.maximum(kept.sum(axis=1), 1))


def _expected_f1(falling: Floats) -> Floats:
    """Return what F1 the first k drugs are about to have, k = 1, 2 ..: 2 Σ_(i<=k) p_i / (k + Σ p).

    The ratio of two expectations, for the expectation of the ratio: that needs the distribution of how many drugs
    are ordered, takes time with the formulary's third power, and gains nothing (docs/calibration.md).

    Source: Ye et al., Optimizing F-measure: A Tale of Two Approaches, ICML 2012.
    """
    found, lengths = np.cumsum(falling, axis=1), np.arange(1, falling.shape[1] + 1)
    return np.asarray(2 * found / (lengths + found[:, -1:]))
