"""How a drug is spelt: the one normaliser, used by the ETL, the parser, the service and the scores.

It folds spellings only. Which names mean the same ingredient is a clinical question for a mapping
table, not for string surgery: "sodium chloride 0.9%" and "sodium chloride 23.4%" stay two drugs.
"""

from __future__ import annotations

import unicodedata

_NON_FORMULARY = "*nf*"
_STRAY = " _*,;:|"


def normalise_drug(raw: str) -> str:
    """Return the canonical spelling of one order's drug name; "" where nothing is left of it.

    Compatibility characters are unified, the hospital's non-formulary mark is dropped, case and white
    space are folded, stray punctuation at either end goes. Applying it twice changes nothing.

    >>> normalise_drug("  LORazepam ")
    'lorazepam'
    >>> normalise_drug("*NF* Ertapenem  Sodium")
    'ertapenem sodium'
    >>> normalise_drug("Sodium Chloride 0.9%  Flush")
    'sodium chloride 0.9% flush'
    """
    name = unicodedata.normalize("NFKC", raw).casefold()
    # casefold can open new compatibility sequences; a second round makes the result a fixed point
    name = unicodedata.normalize("NFKC", name)
    # "<|" begins a special token in a prompt: no drug's name may spell one
    for mark in (_NON_FORMULARY, "<|"):
        while mark in name:
            name = name.replace(mark, " ")
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()).strip(_STRAY)


def normalise_drugs(raw: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Normalise a list, keep its order, drop repeats and names of which nothing is left."""
    return tuple(dict.fromkeys(name for name in map(normalise_drug, raw) if name))
