"""The same two lists at coarser and coarser meanings of "the same drug".

    drug -> ingredients -> ATC-5 (7 characters) -> ATC-4 (5) -> ATC-3 (4, the field's labels) -> ATC-2 (3)

A name has one class a rung: a combination is the set of its ingredients, or of their codes, and matches as a whole.
A name without a class stays in its list, unmatched. ATC-5 is not a refinement of the ingredients: one ingredient has
several codes, by route. Coarse rungs score higher for any model, so each is read with the skill of
`evaluation.statistics.chance` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache

import numpy as np
import polars as pl

from etl.drug_vocabulary import Drug, DrugVocabulary
from evaluation.statistics.ratios import Ratio, ratio

RUNGS = ("drug", "ingredient", "atc5", "atc4", "atc3", "atc2")
_ATC_CHARACTERS = {"atc5": 7, "atc4": 5, "atc3": 4, "atc2": 3}
_ATC_LABEL = re.compile(r"[a-z]\d\d[a-z](?:[a-z](?:\d\d)?)?")

Class = str | None
"""What a name is at a rung; None: it is not mapped there."""


class Rule(StrEnum):
    """How two lists of classes are matched."""

    ONE_TO_ONE = "one-to-one"
    """A drafted drug pairs with one ordered drug of its class; the lists keep their lengths."""
    SET = "set"
    """Both lists lose their repeated classes first, as in the literature."""


def atc_codes(drug: Drug) -> tuple[str, ...]:
    """Return a drug's codes in lower case; in a cohort whose drugs are called by ATC codes, the name is one."""
    label = not drug.ingredients and not drug.atc and _ATC_LABEL.fullmatch(drug.name)
    return (drug.name,) if label else tuple(code.lower() for code in drug.atc)


class Projection:
    """Says what names are at each rung; keeps the last ones it has seen."""

    def __init__(self, vocabulary: DrugVocabulary) -> None:
        self._vocabulary = vocabulary
        self.classes = lru_cache(1 << 16)(self._classes)

    def _classes(self, name: str) -> tuple[Class, ...]:
        """Return a name's class at each of RUNGS; one that is an ATC code has none at the rungs below it."""
        drug = self._vocabulary.look_up(name)
        codes = atc_codes(drug)
        finest = 7 if drug.atc else max(map(len, codes), default=0)
        cut = ["|".join(sorted({code[:n] for code in codes})) if n <= finest else "" for n in _ATC_CHARACTERS.values()]
        return tuple(one or None for one in (drug.name, "|".join(drug.ingredients), *cut))

    def rungs(self, names: Iterable[str]) -> dict[str, list[Class]]:
        """Return the class of every name, in their order, at every rung."""
        rows = [self.classes(name) for name in names]
        return {rung: [row[i] for row in rows] for i, rung in enumerate(RUNGS)}


def distinct(classes: Sequence[Class]) -> int:
    """Return a list's length without repeated classes; names without a class count one each."""
    return len(set(classes) - {None}) + sum(one is None for one in classes)


# --- scores of the per-visit table --------------------------------------------------------------------


def rung_scores(visits: pl.DataFrame, rung: str, rule: Rule = Rule.ONE_TO_ONE) -> dict[str, Ratio]:
    """Return precision, recall and F1 at a rung, averaged over all visits; an undefined score counts 0."""
    lists = rung if rule is Rule.SET else "drug"
    hits = visits[f"tp_{rung}" if rule is Rule.SET else f"one_{rung}"].to_numpy().astype(float)
    p, t = visits[f"p_{lists}"].to_numpy(), visits[f"t_{lists}"].to_numpy()
    every = np.ones(len(hits))
    return {
        "precision": Ratio(hits / np.maximum(p, 1), every),
        "recall": Ratio(hits / np.maximum(t, 1), every),
        "f1": Ratio(2 * hits / np.maximum(p + t, 1), every),
    }


def coverage(visits: pl.DataFrame) -> dict[str, Ratio]:
    """Return the share of drafted (`p`) and of ordered (`t`) drugs that have an ATC code."""
    return {side: ratio(visits[f"mapped_{side}"], visits[f"{side}_drug"]) for side in ("p", "t")}
