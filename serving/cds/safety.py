"""Screening inside a hook: rules only, on what the call itself brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etl.domain import Diagnosis, normalise_icd
from serving.cds.prefetch import Lab as MeasuredLab
from serving.cds.prefetch import PatientFacts
from serving.screening import Allergy, Facts, Lab, Screener, Screening


def screen(screener: Screener, drugs: Sequence[str], current: Sequence[str] | None, facts: PatientFacts) -> Screening:
    """Screen drugs; what half a list of allergies or orders tells is told, but does not count as evaluated.

    Args:
        screener: the rules.
        drugs: proposed.
        current: ordered besides; None: not given.
        facts: of the patient.
    """
    all_facts = _facts(facts, current)
    whole = replace(
        all_facts,
        allergies=None if "allergies" in facts.gaps else all_facts.allergies,
        current_drugs=None if "medications" in facts.gaps else all_facts.current_drugs,
    )
    sure = screener.screen(drugs, whole)
    if whole == all_facts:
        return sure
    seen = screener.screen(drugs, all_facts)
    return seen if len(seen.alerts) > len(sure.alerts) else sure


def knows(screener: Screener, name: str) -> bool:
    """Tell whether screening understands a drug's name."""
    return not screener.screen([name], Facts()).unscreened


def _facts(facts: PatientFacts, current: Sequence[str] | None) -> Facts:
    coded = [one for one in facts.diagnoses or () if "icd_code" in one]
    return Facts(
        current_drugs=None if current is None else tuple(current),
        allergies=None if facts.allergies is None else tuple(map(Allergy, facts.allergies)),
        diagnoses=tuple(Diagnosis(normalise_icd(one["icd_code"]), one["icd_version"]) for one in coded),
        age=facts.age,
        sex=facts.sex,
        creatinine_mg_dl=_lab(facts.creatinine_mg_dl),
        potassium_mmol_l=_lab(facts.potassium_mmol_l),
    )


def _lab(measured: MeasuredLab | None) -> Lab | None:
    return None if measured is None else Lab(*measured)
