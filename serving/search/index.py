"""The file of the search: made once for a vocabulary, whole or absent, then only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from etl.artefacts import sha256, whole_or_absent
from etl.drug_vocabulary import Level
from etl.icd import category
from serving.search.korean import endings, korean_titles
from serving.vocabulary import Vocabulary

FORMAT = "2"
"""Changes with what stands in the file."""

# Rows are numbered by how likely they are meant: FTS5 gives matches in that order, so that the first ones can be had
# without ranking the tens of thousands that a common word has.

_TABLES = """
CREATE TABLE codes (
    id INTEGER PRIMARY KEY, icd_code TEXT NOT NULL, icd_version INTEGER NOT NULL,
    title TEXT NOT NULL, title_ko TEXT
);
CREATE INDEX codes_by_code ON codes (icd_code);
CREATE VIRTUAL TABLE code_words USING fts5 (
    title, title_ko, synonyms, endings,
    content='', tokenize='unicode61 remove_diacritics 2', prefix='2 3 4'
);
CREATE TABLE drugs (
    id INTEGER PRIMARY KEY, drug TEXT NOT NULL, ingredients TEXT NOT NULL, atc TEXT NOT NULL,
    in_formulary INTEGER NOT NULL
);
CREATE VIRTUAL TABLE drug_words USING fts5 (
    drug, ingredients, atc,
    content='', tokenize='unicode61 remove_diacritics 2', prefix='2 3 4'
);
"""


def index_of(vocabulary: Vocabulary, folder: Path) -> Path:
    """Return the index of a vocabulary, made now if the folder has none."""
    path = folder / f"{digest(vocabulary)}.sqlite3"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(path) as unfinished:
            build(vocabulary, unfinished)
    return path


def digest(vocabulary: Vocabulary) -> str:
    """Return what names an index: everything that stands in it."""
    korean = (files("serving.search") / "korean_titles.csv").read_bytes()
    counts = vocabulary.evidence.admissions() if vocabulary.evidence else {}
    parts = (
        *(FORMAT, sha256(korean), vocabulary.drugs.digest, vocabulary.level, *vocabulary.formulary),
        *(f"{code} {version} {title}" for (code, version), title in vocabulary.titles.items()),
        *(f"{name} {count}" for name, count in sorted(counts.items())),
    )
    return sha256("\n".join(parts).encode())[:16]


def build(vocabulary: Vocabulary, path: Path) -> None:
    """Write the index; seconds for a whole dictionary of codes."""
    con = sqlite3.connect(path)
    try:
        with con:
            con.executescript(_TABLES)
            codes, drugs = list(_codes(vocabulary)), list(_drugs(vocabulary))
            con.executemany("INSERT INTO codes VALUES (?, ?, ?, ?, ?)", (code for code, _ in codes))
            con.executemany(
                "INSERT INTO code_words (rowid, title, title_ko, synonyms, endings) VALUES (?, ?, ?, ?, ?)",
                (words for _, words in codes),
            )
            con.executemany("INSERT INTO drugs VALUES (?, ?, ?, ?, ?)", drugs)
            con.executemany(
                "INSERT INTO drug_words (rowid, drug, ingredients, atc) VALUES (?, ?, ?, ?)",
                ((drug[0], drug[1], drug[2], drug[3]) for drug in drugs),
            )
            con.execute("INSERT INTO code_words (code_words) VALUES ('optimize')")
            con.execute("INSERT INTO drug_words (drug_words) VALUES ('optimize')")
    finally:
        con.close()


def _codes(vocabulary: Vocabulary) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    """Give the rows of `codes` and of its words: categories that training had often first, short titles first."""
    counts = vocabulary.evidence.admissions() if vocabulary.evidence else {}
    korean = korean_titles()
    kinds = {key: category(*key) for key in vocabulary.titles}
    ordered = sorted(vocabulary.titles.items(), key=lambda one: (-counts.get(kinds[one[0]], 0), len(one[1]), one[0]))
    for number, ((code, version), title) in enumerate(ordered, 1):
        known = korean.get(kinds[code, version])
        title_ko, synonyms = (known.title, known.synonyms) if known else (None, "")
        ends = endings(f"{title_ko or ''} {synonyms}")
        yield (number, code, version, title, title_ko), (number, title, title_ko or "", synonyms, ends)


def _drugs(vocabulary: Vocabulary) -> Iterator[tuple[object, ...]]:
    """Give the formulary, commonest first, then every ingredient that the dictionary knows beside, shortest first."""
    look_up, formulary = vocabulary.drugs.look_up, dict.fromkeys(vocabulary.formulary)
    others = sorted(set(vocabulary.drugs.ingredients) - formulary.keys(), key=lambda name: (len(name), name))
    for number, drug in enumerate([*formulary, *others], 1):
        known = look_up(drug)
        served = drug in formulary or not formulary.keys().isdisjoint(vocabulary.drugs.labels(drug, vocabulary.level))
        atc = known.atc or ((drug.upper(),) if drug in formulary and vocabulary.level in _CODES else ())
        yield number, drug, "; ".join(known.ingredients), "; ".join(atc), int(served)


_CODES = (Level.ATC3, Level.ATC4, Level.ATC5)
