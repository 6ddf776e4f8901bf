"""What a drug's name means: its ingredients, their ATC codes, and what is no drug at all.

The tables of `etl/vocabulary/` are a dictionary of words: ingredients, aliases, forms and salts, categories.
A name is read as a sentence of those words, the longest first; a word nobody knows leaves the whole name
unmapped, since half a combination is another drug. docs/vocabulary.md says how the tables were made.
It knows the order's name only: no route, no dose, no patient. Standard library only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from etl.artefacts import sha256
from etl.drug_map import DrugMap, Meaning, parts, read_drug_map
from etl.drugs import normalise_drug


class Level(StrEnum):
    """How finely drugs are told apart in training and scoring."""

    DRUG = "drug"
    INGREDIENT = "ingredient"
    ATC5 = "atc5"
    ATC4 = "atc4"
    ATC3 = "atc3"


_ATC_CHARACTERS = {Level.ATC5: 7, Level.ATC4: 5, Level.ATC3: 4}

CATEGORIES = ("fluids", "flushes", "diluents", "devices", "kits")
"""What a user can keep or drop; docs/vocabulary.md defines each."""
DEFAULT_DROP = ("devices", "diluents")
"""What is no drug at all: a bag, a syringe, the water a drug is dissolved in."""

ROUTES = (
    "ophthalmic",
    "otic",
    "nasal",
    "inhaled",
    "vaginal",
    "rectal",
    "mouth",
    "irrigation",
    "transdermal",
    "parenteral",
    "topical",
    "oral",
)
"""Routes that decide an ATC code; of several in one name the first here counts ("ophth oint" is no skin ointment)."""

TABLES = ("ingredients", "aliases", "combinations", "words", "categories")

_TOKEN = re.compile(r"(?:\d+(?:[.,]\d+)*|\.\d+)\s*%?|[^\W\d_]+")
_BRACKETS = re.compile(r"[(\[][^)\]]*[)\]]?")

_Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drug:
    """What one spelling means.

    Attributes:
        name: the canonical spelling, `normalise_drug`'s.
        category: one of CATEGORIES; None: a drug proper.
        ingredients: sorted, as US pharmacies name them; () where the name is unmapped.
        atc: upper case, 7 characters, or 5 where the WHO's index ends there (multivitamins); () where unmapped.
    """

    name: str
    category: str | None = None
    ingredients: tuple[str, ...] = ()
    atc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Term:
    """What a word or phrase of the dictionary contributes to a name."""

    ingredients: frozenset[str] = frozenset()
    route: str = ""
    atc: tuple[str, ...] = ()
    category: str = ""


@dataclass(slots=True)
class _Reading:
    """A name as the dictionary reads it."""

    terms: list[_Term] = field(default_factory=list)
    understood: bool = True

    @property
    def categories(self) -> set[str]:
        return {term.category for term in self.terms}

    @property
    def route(self) -> str:
        """The most telling route named; "" where none is."""
        named = {term.route for term in self.terms}
        return next((route for route in ROUTES if route in named), "")

    def ingredients(self, salts: frozenset[str]) -> frozenset[str]:
        """What the name is made of, without what carries it: the metal after a drug, the fluid around it."""
        found: frozenset[str] = frozenset()
        for term in self.terms:
            if term.category != "fluids" and not (found - salts and term.ingredients <= salts):
                found |= term.ingredients
        return found or _union(self.terms)


class DrugVocabulary:
    """Looks up spellings; keeps the last ones it has seen."""

    def __init__(self, tables: dict[str, list[dict[str, str]]], digest: str, drug_map: DrugMap | None = None) -> None:
        """Build the dictionary.

        Args:
            tables: rows of each of TABLES.
            digest: of the tables and the user's map.
            drug_map: the user's map; one keyed by GSN or NDC is applied by the caller, before `look_up`.
        """
        self.digest = digest
        self._map = drug_map
        self._codes = {(row["ingredient"], ""): parts(row["atc"]) for row in tables["ingredients"]}
        for row in tables["ingredients"]:
            for route, _, code in (pair.partition("=") for pair in parts(row["atc_by_route"])):
                self._codes[row["ingredient"], route] = (code,)
        self._combinations = {
            (frozenset(parts(row["ingredients"])), row["route"]): parts(row["atc"]) for row in tables["combinations"]
        }
        salts = {row["word"] for row in tables["words"] if row["kind"] == "salt"}
        self._salts = frozenset(row["ingredient"] for row in tables["ingredients"] if row["ingredient"] in salts)
        self._terms = _dictionary(tables)
        self._longest = max(map(len, self._terms))
        for row in tables["categories"]:
            phrase = _tokens(row["phrase"])
            meant = _union(self._read(phrase).terms) if row["category"] == "fluids" else frozenset()
            self._terms[phrase] = _Term(meant, category=row["category"])
        self._cached = lru_cache(1 << 16)(self._look_up)  # bounded: a service is asked names without end

    @property
    def ingredients(self) -> list[str]:
        """Every ingredient of the dictionary, sorted."""
        return sorted({ingredient for ingredient, _ in self._codes})

    def look_up(self, spelling: str) -> Drug:
        """Return what a spelling means; an unmapped one stays as itself, with nothing known of it."""
        return self._cached(spelling)

    def labels(self, spelling: str, level: Level) -> tuple[str, ...]:
        """Return what a spelling counts as at a level.

        Returns:
            Distinct and sorted labels, each a fixed point of `normalise_drug`: the name; the ingredients; or the
            ATC codes, cut and in lower case. A name unmapped at the level is its own label; () where nothing is
            left of the spelling.
        """
        drug = self.look_up(spelling)
        own = (drug.name,) if drug.name else ()
        if level == Level.DRUG:
            return own
        if level == Level.INGREDIENT:
            return drug.ingredients or own
        return tuple(sorted({code[: _ATC_CHARACTERS[level]].lower() for code in drug.atc})) or own

    def _look_up(self, spelling: str) -> Drug:
        name = normalise_drug(spelling)
        if self._map is None:
            return self._understand(name)
        if self._map.key == "drug":
            name = self._map.names.get(name, name)
        drug, said = self._understand(name), self._map.meanings.get(name, Meaning())
        if said.ingredients:
            drug = Drug(name, None, said.ingredients, self._atc(frozenset(said.ingredients), "", ()))
        return replace(drug, atc=said.atc) if said.atc else drug

    def _understand(self, name: str) -> Drug:
        """Read the name without its brackets, or with them where only that makes sense ("Foo (sildenafil)").

        Brackets repeat the brand or say what the drug is for; their routes and categories count in either case.
        """
        whole = self._read(_tokens(name))
        reading = self._read(_tokens(_BRACKETS.sub(" ", name)))
        one_phrase = whole.understood and len(whole.terms) == 1  # "Fleet Enema (Mineral Oil)"
        if one_phrase or not reading.understood or not reading.ingredients(self._salts):
            reading = whole
        category = self._category(reading, whole)
        if not reading.understood:
            return Drug(name, category if category in ("flushes", "kits") else None)
        ingredients = reading.ingredients(self._salts)
        parenteral = "parenteral" if category in ("fluids", "flushes", "diluents") else ""
        said = [term.atc for term in reading.terms if term.atc and term.ingredients == ingredients]
        atc = self._atc(ingredients, whole.route or parenteral, said[0] if said else ())
        return Drug(name, category, tuple(sorted(ingredients)), atc)

    def _read(self, tokens: _Tokens) -> _Reading:
        """Cut tokens into the longest known phrases, left to right; numbers and units mean nothing by themselves."""
        reading, start = _Reading(), 0
        while start < len(tokens):
            ends = range(min(len(tokens), start + self._longest), start, -1)
            end = next((end for end in ends if tokens[start:end] in self._terms), None)
            if end is not None:
                reading.terms.append(self._terms[tokens[start:end]])
            elif tokens[start][0].isalpha():
                reading.understood = False
            start = end or start + 1
        return reading

    def _category(self, reading: _Reading, whole: _Reading) -> str | None:
        """Return what kind of thing a name is; None where it is a drug proper.

        A flush and a kit say so in one word. A fluid is one when nothing is dissolved in it and no nose, eye or
        lung takes it; a device or a diluent when the name says nothing else.
        """
        for category in ("flushes", "kits"):
            if category in whole.categories:
                return category
        dissolved = _union(term for term in reading.terms if not term.category) - self._salts
        if dissolved or whole.route in ("ophthalmic", "otic", "nasal", "inhaled") or not reading.understood:
            return None
        return next((category for category in ("diluents", "fluids", "devices") if category in whole.categories), None)

    def _atc(self, ingredients: frozenset[str], route: str, said: tuple[str, ...]) -> tuple[str, ...]:
        """Return the codes said outright, else those of the combination, else those of every ingredient."""
        combined = self._combinations.get((ingredients, route)) or self._combinations.get((ingredients, ""), ())
        single = (self._codes.get((one, route)) or self._codes.get((one, ""), ()) for one in ingredients)
        return said or combined or tuple(sorted({code for codes in single for code in codes}))


def read_drug_vocabulary(drug_map: Path | None = None) -> DrugVocabulary:
    """Read the tables of `etl/vocabulary/`, and a user's map.

    Raises:
        ConfigError: see `read_drug_map`.
    """
    return _shipped() if drug_map is None else _read(read_drug_map(drug_map))


@cache
def _shipped() -> DrugVocabulary:
    """Read it once: it never changes, and is asked for by every part of a service."""
    return _read(None)


def _read(users: DrugMap | None) -> DrugVocabulary:
    folder = files("etl") / "vocabulary"
    texts = {table: (folder / f"{table}.csv").read_text("utf-8") for table in TABLES}
    tables = {table: list(csv.DictReader(text.splitlines())) for table, text in texts.items()}
    digest = sha256("".join([*texts.values(), users.digest if users else ""]).encode())
    return DrugVocabulary(tables, digest, users)


def _dictionary(tables: dict[str, list[dict[str, str]]]) -> dict[_Tokens, _Term]:
    """Return every word and phrase but the categories'; an ingredient outranks a word spelt like it."""
    words = {_tokens(row["word"]): _Term(route=row["route"]) for row in tables["words"]}
    names = {_tokens(row["ingredient"]): _Term(frozenset([row["ingredient"]])) for row in tables["ingredients"]}
    aliases = {
        _tokens(row["alias"]): _Term(frozenset(parts(row["ingredients"])), row["route"], parts(row["atc"]))
        for row in tables["aliases"]
    }
    return words | names | aliases


def _tokens(name: str) -> _Tokens:
    """Cut a normalised name into words and numbers; a percent sign stays with its number.

    >>> _tokens("vitamin b-12"), _tokens("d5w 0.9 %")
    (('vitamin', 'b', '12'), ('d', '5', 'w', '0.9%'))
    """
    return tuple(token.replace(" ", "") for token in _TOKEN.findall(name))


def _union(terms: Iterable[_Term]) -> frozenset[str]:
    return frozenset().union(*(term.ingredients for term in terms))
