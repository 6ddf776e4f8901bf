"""A drug's name as rules see it: ingredients, ATC codes, and the groups it belongs to.

An ATC code in place of a name (a formulary at an ATC level) belongs to groups by its code alone, and has no
ingredients: the checks of ingredients cannot see it, so that it counts as unscreened.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from etl.drug_vocabulary import Drug, DrugVocabulary
from serving.screening.rules import Group

LOCAL = ("A01A", "A07A", "A07E", "C05A", "D", "G01", "M02A", "N01B", "P03", "R01A", "S")
"""Beginnings of ATC codes of what acts where it is put: mouth, gut, rectum, skin, vagina, nose, eye, ear, nerve."""
_SYSTEMIC = ("D01B", "D05B", "D10B", "R01B")
"""Exceptions: skin and nose, by mouth."""

_ATC = re.compile(r"[A-Z]\d{2}[A-Z]{1,2}(?:\d{2})?")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the rules know of a name.

    Attributes:
        name: normalised, by which two spellings are one.
        ingredients: empty where they are not known.
        flush: keeps a catheter open.
        dose: neither a flush nor, by every code, a form that stays where it is put.
        groups: name of a group -> what puts the drug there: ingredients, or an ATC code that stands for itself.
    """

    name: str
    ingredients: frozenset[str]
    flush: bool
    dose: bool
    groups: Mapping[str, frozenset[str]]


class Profiler:
    """Looks names up; keeps the last ones it has seen."""

    def __init__(self, drugs: DrugVocabulary, groups: Mapping[str, Group], synonyms: Mapping[str, str]) -> None:
        """Prepare the look-up.

        Args:
            drugs: what names mean.
            groups: by name.
            synonyms: other spelling -> ingredient, for what `drugs` does not know.
        """
        self._drugs = drugs
        self._groups = groups
        self._synonyms = synonyms
        self._other = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, synonyms), key=len, reverse=True))})\b")
        self._by_ingredient = _index((name, one) for name, group in groups.items() for one in group.ingredients)
        self._by_code = _index((name, code) for name, group in groups.items() for code in group.atc)
        self._cached = lru_cache(1 << 16)(self._profile)  # bounded: a service is asked names without end

    def __call__(self, spelling: str) -> Profile:
        """Return what the rules know of a spelling."""
        return self._cached(spelling)

    def _profile(self, spelling: str) -> Profile:
        drug = self._meaning(spelling)
        code = drug.name.upper()
        if not drug.ingredients and _ATC.fullmatch(code):
            drug = Drug(drug.name, None, (), (code,))
        ingredients = frozenset(drug.ingredients)
        local = bool(drug.atc) and all(code.startswith(LOCAL) and not code.startswith(_SYSTEMIC) for code in drug.atc)
        flush = drug.category == "flushes"
        dose = not local and not flush
        return Profile(
            drug.name, ingredients, flush, dose, self._memberships(drug, ingredients or frozenset([code]), dose)
        )

    def _meaning(self, spelling: str) -> Drug:
        """Return what the vocabulary says, else what it says of the name with known synonyms put in."""
        drug = self._drugs.look_up(spelling)
        if drug.ingredients:
            return drug
        other = self._other.sub(lambda found: self._synonyms[found[0]], drug.name)
        meant = self._drugs.look_up(other)
        if not meant.ingredients and other in self._by_ingredient:  # a member of a group that no formulary held yet
            meant = Drug(other, None, (other,))
        return Drug(drug.name, meant.category or drug.category, meant.ingredients, meant.atc)

    def _memberships(self, drug: Drug, whole: frozenset[str], dose: bool) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for code in drug.atc:
            for end in range(1, len(code) + 1):
                found |= dict.fromkeys(self._by_code.get(code[:end], ()), whole)
        named: dict[str, set[str]] = defaultdict(set)
        for one in drug.ingredients:
            for group in self._by_ingredient.get(one, ()):
                named[group].add(one)
        found |= {group: frozenset(ones) for group, ones in named.items()}
        return {group: ones for group, ones in found.items() if dose or self._groups[group].local}


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = defaultdict(list)
    for group, key in pairs:
        index[key].append(group)
    return dict(index)
