"""The front of the search: any text in, the best codes or drugs out, in milliseconds."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.domain import normalise_icd
from etl.errors import RxdraftError
from serving.operation.logs import event
from serving.schemas.answers import FoundCode, FoundDrug
from serving.search.index import index_of
from serving.vocabulary import Vocabulary

_WORD = re.compile(r"\w+")
_CODE = re.compile(r"[A-Z0-9]{2,10}")
_MOST_WORDS = 8

_LOOKED_AT = 200
"""Matches that the best are chosen from, the likeliest of all."""

_BY_CODE = """
    SELECT icd_code, icd_version, title, title_ko FROM codes
    WHERE icd_code >= :code AND icd_code < :code || 'a' AND (:version IS NULL OR icd_version = :version)
    ORDER BY icd_code <> :code, length(icd_code), id LIMIT :most
"""
_BY_WORDS = """
    SELECT icd_code, icd_version, codes.title, codes.title_ko FROM code_words JOIN codes ON codes.id = code_words.rowid
    WHERE code_words MATCH :words AND (:version IS NULL OR icd_version = :version)
    ORDER BY code_words.rowid LIMIT :most
"""
_DRUGS = """
    SELECT drugs.drug, drugs.ingredients, drugs.atc, in_formulary
    FROM drug_words JOIN drugs ON drugs.id = drug_words.rowid
    WHERE drug_words MATCH :words
    ORDER BY drug_words.rowid LIMIT :most
"""


class SearchNotReadyError(RxdraftError):
    """The index is still being made."""


class Search:
    """Looks up codes and drugs in a file that nobody writes; fit for many threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin without an index.

        Args:
            folder: keeps indexes; None: one that goes with this object.
        """
        self._folder = folder
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._path: Path | None = None
        self._local = threading.local()

    @property
    def ready(self) -> bool:
        """Whether there is an index."""
        return self._path is not None

    def read(self, vocabulary: Callable[[], Vocabulary]) -> None:
        """Make or find the index of a vocabulary; seconds, once."""
        read = vocabulary()
        if self._folder is not None:
            try:
                self._path = index_of(read, self._folder)
                return
            except (OSError, sqlite3.Error):
                event("search_not_kept", level="warning")  # a cache that cannot be written is no reason to find nothing
        self._own = tempfile.TemporaryDirectory(prefix="rxdraft-search-")
        self._path = index_of(read, Path(self._own.name))

    def icd(self, text: str, version: int | None = None, most: int = 20) -> list[FoundCode]:
        """Return the codes that fit a text best; none where it holds no word.

        Raises:
            SearchNotReadyError: there is no index yet.
        """
        code = normalise_icd(text)
        found: dict[tuple[str, int], FoundCode] = {}
        if _CODE.fullmatch(code):
            _add(found, self._ask(_BY_CODE, code=code, version=version, most=most))
        if len(found) < most and (words := quoted(text)):
            rows = self._ask(_BY_WORDS, words=words, version=version, most=_LOOKED_AT)
            _add(found, sorted(rows, key=lambda row: _distance(text, row[2])))
        return list(found.values())[:most]

    def drugs(self, text: str, most: int = 20) -> list[FoundDrug]:
        """Return the drugs that fit a text best; none where it holds no word.

        Raises:
            SearchNotReadyError: there is no index yet.
        """
        if not (words := quoted(text)):
            return []
        rows = self._ask(_DRUGS, words=words, most=_LOOKED_AT)
        rows.sort(key=lambda row: (not row[3], _distance(text, row[0])))
        return [
            FoundDrug(drug=drug, ingredients=_parts(ingredients), atc=_parts(atc), in_formulary=bool(served))
            for drug, ingredients, atc, served in rows[:most]
        ]

    def _ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection().execute(query, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        if self._path is None:
            raise SearchNotReadyError("the index is being made; ask again in a moment")
        con: sqlite3.Connection | None = getattr(self._local, "con", None)
        if con is None:
            con = self._local.con = sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)
        return con


def quoted(text: str) -> str:
    """Return a text as an FTS5 query of the beginnings of its words; anything else in it could be an operator.

    A single letter or digit begins too many words to mean one, unless it stands alone and is no Latin letter.

    >>> quoted('heart-fail "AND" a'), quoted("-x:"), quoted("암")
    ('"heart"* "fail"* "AND"*', '', '"암"*')
    """
    words = [word for word in _WORD.findall(text) if len(word) > 1 or not word.isascii()][:_MOST_WORDS]
    return " ".join(f'"{word}"*' for word in words)


def _distance(text: str, name: str) -> tuple[bool, int]:
    """Tell how far a name is from what was typed: whether it begins otherwise, and how many words it has only begun."""
    typed, words = text.casefold().strip(), set(_WORD.findall(name.casefold()))
    return not name.casefold().startswith(typed), sum(word not in words for word in _WORD.findall(typed))


def _add(found: dict[tuple[str, int], FoundCode], rows: list[tuple[Any, ...]]) -> None:
    for code, version, title, title_ko in rows:
        known = FoundCode(icd_code=code, icd_version=version, title=title, title_ko=title_ko)
        found.setdefault((code, version), known)


def _parts(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("; ")) if joined else ()
