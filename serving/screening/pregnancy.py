"""Pregnancy and lactation, by what was said or by a diagnosis."""

from __future__ import annotations

from etl.domain import normalise_icd
from etl.icd import category
from serving.screening.facts import Facts

_PREGNANT = ("Z33", "Z34", "Z3A")
_LACTATING = "Z391"
"""Encounter for care and examination of a lactating mother."""
_OLDEST_YEARS = 60
"""Past it nobody is asked; this project's choice."""


def pregnant(facts: Facts) -> bool | None:
    """Return what was said, else True by an ICD-10 category O*, Z33, Z34 or Z3A (ICD-9 by its equivalent).

    Returns:
        False also for a man and from 60 years on; None: not known.
    """
    if facts.pregnant is not None:
        return facts.pregnant
    codes = (
        category(normalise_icd(d.icd_code), d.icd_version) for d in facts.diagnoses if d.icd_code and d.icd_version
    )
    if any(code.startswith("O") or code in _PREGNANT for code in codes):
        return True
    return False if _neither(facts) else None


def lactating(facts: Facts) -> bool | None:
    """Return what was said, else True by ICD-10 Z39.1; False also for a man and from 60 years on; None: not known."""
    if facts.lactating is not None:
        return facts.lactating
    if any(normalise_icd(d.icd_code) == _LACTATING for d in facts.diagnoses if d.icd_code and d.icd_version == 10):
        return True
    return False if _neither(facts) else None


def _neither(facts: Facts) -> bool:
    return facts.sex == "M" or (facts.age is not None and facts.age >= _OLDEST_YEARS)
