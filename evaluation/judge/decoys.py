"""Units whose right answer is known, to measure what the judge accepts and what it lets pass.

Each kind returns its candidates in an order that a seed alone decides, so that a longer run asks what a shorter
one asked and more. The judge is never told the kind; the rules of decoys/*.csv name their sources.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import islice

from etl.artefacts import sha256
from etl.drug_vocabulary import CATEGORIES
from evaluation.interactions import Interactions
from evaluation.judge.items import Charts, Unit


class Kind(StrEnum):
    """How a decoy is made; every kind but the first is wrong for its patient, or mostly so."""

    POSITIVE = "positive_control"
    CHART_SWAP = "chart_swap"
    FICTITIOUS = "fictitious"
    SEX = "sex"
    ORGAN = "organ_function"
    DUPLICATE = "duplicate"
    INTERACTION = "severe_interaction"


NEGATIVE = tuple(kind for kind in Kind if kind is not Kind.POSITIVE)
UNAVAILABLE = {"allergy": "no allergies in the cohort", "drug_disease": "no table of contraindications"}
"""Kinds that the field uses and these data cannot make; the certificate says so."""

SHARES = {
    Kind.POSITIVE: 0.25,
    Kind.CHART_SWAP: 0.25,
    Kind.FICTITIOUS: 0.15,
    Kind.SEX: 0.05,
    Kind.ORGAN: 0.05,
    Kind.DUPLICATE: 0.05,
    Kind.INTERACTION: 0.05,
}
"""Of all decoys; what is left, .15, are whole lists under another patient's chart."""

_SEVERE = ("contraindicated", "major")
_NEAREST = 5


@dataclass(slots=True)
class Decoys:
    """Makes decoys of the stays of one split.

    Attributes:
        charts: the stays.
        seed: of every draw.
        interactions: who knows which drugs interact; None: nobody was asked.
    """

    charts: Charts
    seed: int = 0
    interactions: Interactions | None = None

    def draw(self, kind: Kind, count: int) -> list[Unit]:
        """Return up to `count` distinct decoys of a kind, spread over the patients; fewer where the data end."""
        made = {
            Kind.POSITIVE: self._positive,
            Kind.CHART_SWAP: self._swapped,
            Kind.FICTITIOUS: self._fictitious,
            Kind.SEX: self._wrong_sex,
            Kind.ORGAN: self._failed_organ,
            Kind.DUPLICATE: self._duplicate,
            Kind.INTERACTION: self._interacting,
        }[kind]()
        return list(islice(_distinct(made), count))

    def _shuffled(self, things: Iterable[tuple[int, str]], salt: str) -> list[tuple[int, str]]:
        return sorted(things, key=lambda thing: sha256(f"{self.seed}|{salt}|{thing}".encode()))

    def _true(self, salt: str) -> list[tuple[int, str]]:
        """Return every stay with each of its true drugs, shuffled."""
        charts = self.charts
        pairs = {(hadm, charts.label(drug)) for hadm, row in charts.samples.items() for drug in row["drugs"]}
        return self._shuffled(pairs, salt)

    def _positive(self) -> Iterator[Unit]:
        return (Unit(*pair) for pair in self._true("positive"))

    def _swapped(self) -> Iterator[Unit]:
        """Another patient's drug, as common as one of this patient's, of a class this chart knows nothing of."""
        drugs = self._swappable()
        of = {drug: {self.charts.subject(hadm) for hadm in stays} for drug, stays in drugs.items()}
        common = {drug: math.log(len(stays)) for drug, stays in drugs.items()}
        classes = {drug: self._drug_classes(drug) for drug in drugs}
        for hadm, drug in self._true("swap"):
            target = common.get(drug)
            if target is None:
                continue
            known, patient = self._classes(hadm), {self.charts.subject(hadm)}
            others = [other for other in drugs if of[other] - patient and not classes[other] & known]
            nearest = sorted(others, key=lambda other: (abs(common[other] - target), other))[:_NEAREST]
            if nearest:
                yield Unit(hadm, self._shuffled([(hadm, other) for other in nearest], "pick")[0][1])

    def _swappable(self) -> dict[str, set[int]]:
        """Return the drugs of the split that would mean something, with their stays."""
        harmless = tuple(row["atc"] for row in _rules("harmless"))
        found: dict[str, set[int]] = {}
        for hadm, row in self.charts.samples.items():
            for drug in row["drugs"]:
                meaning = self.charts.vocabulary.look_up(drug)
                common = any(code.startswith(harmless) for code in meaning.atc)
                if meaning.atc and not common and meaning.category not in CATEGORIES:
                    found.setdefault(self.charts.label(drug), set()).add(hadm)
        return found

    def _classes(self, hadm: int) -> set[str]:
        """Return the ATC-4 classes, and the names, of everything the chart or the stay's orders hold."""
        row = self.charts.samples[hadm]
        drugs = [*row["drugs"], *(row["current_drugs"] or []), *(row["previous_drugs"] or [])]
        return set().union(*(self._drug_classes(drug) for drug in drugs))

    def _drug_classes(self, drug: str) -> set[str]:
        parts = [drug, *drug.split(" and ")]
        return {self.charts.label(drug)} | {
            code[:5] for part in parts for code in self.charts.vocabulary.look_up(part).atc
        }

    def _fictitious(self) -> Iterator[Unit]:
        """A name that nobody has given a drug yet."""
        for place, (hadm, _) in enumerate(self._true("fictitious")):
            yield Unit(hadm, self._invent(place))

    def _invent(self, place: int) -> str:
        """Return the first pronounceable name of a sequence that is near no known ingredient."""
        for attempt in range(1000):
            name = _pronounce(sha256(f"{self.seed}|name|{place}|{attempt}".encode()))
            alike = [known for known in known_ingredients() if known[0] == name[0]]
            unknown = not self.charts.vocabulary.look_up(name).ingredients
            if unknown and not difflib.get_close_matches(name, alike, n=1, cutoff=0.8):
                return name
        raise AssertionError("no name is free")

    def _wrong_sex(self) -> Iterator[Unit]:
        rules = [(row["drug"], row["wrong_for"]) for row in _rules("sex")]
        pairs = [(hadm, drug) for hadm, row in self.charts.samples.items() for drug, sex in rules if row["sex"] == sex]
        return self._unordered(pairs, "sex")

    def _failed_organ(self) -> Iterator[Unit]:
        pairs = [
            (hadm, rule["drug"])
            for hadm, row in self.charts.samples.items()
            for rule in _rules("organ")
            if _outside(row.get(rule["quantity"]), rule)
        ]
        return self._unordered(pairs, "organ")

    def _duplicate(self) -> Iterator[Unit]:
        """A drug that is already being given; only in cohorts that know the drugs so far."""
        pairs = {
            (hadm, self.charts.label(drug))
            for hadm, row in self.charts.samples.items()
            for drug in row["current_drugs"] or []
        }
        return self._unordered(pairs, "duplicate")

    def _interacting(self) -> Iterator[Unit]:
        """A drug of the split that interacts severely with one on the chart."""
        known = self.interactions
        if known is None:
            return
        drugs = list(self._swappable())
        given = {hadm: self.charts.drugs_on(hadm) for hadm in self.charts.samples}
        clashing = {
            name: {drug for drug in drugs if known.severity(drug, name) in _SEVERE}
            for name in set().union(*given.values())
        }
        pairs = {(hadm, drug) for hadm, names in given.items() for name in names for drug in clashing[name]}
        yield from self._unordered(pairs, "interaction")

    def _unordered(self, pairs: Iterable[tuple[int, str]], salt: str) -> Iterator[Unit]:
        """Yield what the stay's true drugs do not hold: an order that was given is no clear mistake."""
        for hadm, drug in self._shuffled(set(pairs), salt):
            given = {self.charts.label(true) for true in self.charts.samples[hadm]["drugs"]}
            if drug not in given:
                yield Unit(hadm, drug)


def _distinct(units: Iterable[Unit]) -> Iterator[Unit]:
    """Drop repeats as they come: the candidates are many more than anyone draws."""
    seen: set[Unit] = set()
    for unit in units:
        if unit not in seen:
            seen.add(unit)
            yield unit


def _outside(value: float | None, rule: dict[str, str]) -> bool:
    if value is None:
        return False
    return bool((rule["below"] and value < float(rule["below"])) or (rule["above"] and value > float(rule["above"])))


@cache
def _rules(name: str) -> list[dict[str, str]]:
    text = (files("evaluation.judge") / "decoys" / f"{name}.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def known_ingredients() -> list[str]:
    """Return the names of all ingredients of the vocabulary."""
    text = (files("etl") / "vocabulary" / "ingredients.csv").read_text("utf-8")
    return [row["ingredient"] for row in csv.DictReader(text.splitlines())]


_ONSETS, _VOWELS = (
    ("b", "br", "d", "dr", "f", "g", "k", "l", "m", "n", "p", "pl", "r", "s", "t", "tr", "v", "z"),
    "aeiou",
)
_ENDINGS = ("dor", "lux", "mer", "nex", "rant", "sel", "tal", "vor", "xan", "zid")


def _pronounce(digest: str) -> str:
    """Return a name of three syllables; none of its endings is a stem of the WHO's list that names a class."""
    draws = [int(digest[place : place + 4], 16) for place in range(0, 24, 4)]
    syllables = [_ONSETS[draws[i] % len(_ONSETS)] + _VOWELS[draws[i + 1] % 5] for i in (0, 2)]
    return "".join(syllables) + _ENDINGS[draws[4] % len(_ENDINGS)]
