"""ICD codes of either version in one currency: ICD-10 categories of three characters, and their chapters.

vocabulary/icd9_to_icd10.csv gives the category of an ICD-9-CM code by its longest listed prefix. Source: 2018 General
Equivalence Mappings of CMS, a work of the US Government in the public domain (data.nber.org/gem/icd9toicd10cmgem.csv,
sha256 a4da8e8a59b3f7c6...): of each code the first ICD-10-CM code named, cut to three characters, written as
prefixes that give each of the 14,142 its own answer. A code that CMS gives no equivalent keeps its own category.

vocabulary/icd10_chapters.csv: the chapters of ICD-10-CM, from its tabular list (CDC/NCHS, public domain).
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from etl.domain import Diagnosis


def category(icd_code: str, icd_version: int) -> str:
    """Return a code's ICD-10 category; an ICD-9 code without one is its own, marked as such.

    >>> category("I5020", 10), category("42822", 9), category("E9358", 9)
    ('I50', 'I50', 'ICD-9 E935')
    """
    if icd_version == 10:
        return icd_code[:3]
    known = _icd9_prefixes()
    for end in range(len(icd_code), 2, -1):
        if found := known.get(icd_code[:end]):
            return found
    return f"ICD-9 {icd_code[: 4 if icd_code.startswith('E') else 3]}"


def chapter(icd10_category: str) -> str | None:
    """Return the chapter of an ICD-10 category, a Roman numeral; None for what is none.

    >>> chapter("D49"), chapter("D50"), chapter("C7A"), chapter("ICD-9 E935")
    ('II', 'III', 'II', None)
    """
    firsts, lasts, names = _chapters()
    place = bisect_right(firsts, icd10_category) - 1
    return names[place] if place >= 0 and icd10_category <= lasts[place] else None


def categories(diagnoses: Iterable[Diagnosis]) -> set[str]:
    """Return the distinct categories of diagnoses, free text left out."""
    return {category(d.icd_code, d.icd_version) for d in diagnoses if d.icd_code and d.icd_version}


@cache
def _icd9_prefixes() -> dict[str, str]:
    return {row["icd9_prefix"]: row["icd10_category"] for row in _rows("icd9_to_icd10.csv")}


@cache
def _chapters() -> tuple[list[str], list[str], list[str]]:
    rows = sorted(_rows("icd10_chapters.csv"), key=lambda row: row["first"])
    return tuple([row[name] for row in rows] for name in ("first", "last", "chapter"))  # type: ignore[return-value]


def _rows(table: str) -> list[dict[str, str]]:
    text = (files("etl") / "vocabulary" / table).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
