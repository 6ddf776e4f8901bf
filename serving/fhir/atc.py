"""The ingredient behind an ATC code, for orders whose names no English dictionary knows."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from etl.drug_map import parts


def ingredient(code: str) -> str | None:
    """Return the ingredients of a full ATC code as a name; None: our tables do not hold it.

    >>> ingredient("C03CA01"), ingredient("J05AR02"), ingredient("C03")
    ('furosemide', 'abacavir / lamivudine', None)
    """
    return _ingredients().get(code.strip().upper())


@cache
def _ingredients() -> dict[str, str]:
    """By code; a code that stands at two ingredients means neither."""
    rows = [(row["ingredient"], _codes(row)) for row in _read("ingredients")]
    rows += [(" / ".join(parts(row["ingredients"])), [*parts(row["atc"])]) for row in _read("combinations")]
    named: dict[str, set[str]] = {}
    for name, codes in rows:
        for code in codes:
            named.setdefault(code, set()).add(name)
    return {code: names.pop() for code, names in named.items() if len(names) == 1 and len(code) == 7}


def _codes(row: dict[str, str]) -> list[str]:
    return [*parts(row["atc"]), *(pair.partition("=")[2] for pair in parts(row["atc_by_route"]))]


def _read(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("etl") / "vocabulary" / f"{table}.csv").read_text("utf-8").splitlines()))
