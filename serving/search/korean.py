"""Korean titles and common short forms of the commonest ICD-10 categories, so that 심부전 and CHF find I50.

`korean_titles.csv` is our own translation of category titles into clinical Korean, with the short forms in use; it is
no official KCD table, and no code hangs on it: it only helps to find one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_SHORTEST = 2
"""Syllables of an ending worth finding."""


@dataclass(frozen=True, slots=True)
class Korean:
    """What a category is called beside its title."""

    title: str
    synonyms: str


@cache
def korean_titles() -> dict[str, Korean]:
    """Return them by ICD-10 category."""
    text = (files("serving.search") / "korean_titles.csv").read_text("utf-8")
    return {
        row["category"]: Korean(row["title_ko"], " ".join(row["synonyms"].split("|")))
        for row in csv.DictReader(text.splitlines())
    }


def endings(text: str) -> str:
    """Return the endings of Korean words: an index of prefixes finds 부전 in 심부전 only so.

    >>> endings("급성 심근경색증 MI")
    '근경색증 경색증 색증'
    """
    words = [word for word in text.split() if word and "가" <= word[0] <= "힣"]
    return " ".join(word[start:] for word in words for start in range(1, len(word) - _SHORTEST + 1))
