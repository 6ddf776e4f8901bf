"""The words every package shares: what a diagnosis is, and what is known of an admission.

Standard library only; nothing here knows files, models or prompts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Split(StrEnum):
    """A part of the cohort; `sql/splits.sql` says whose."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def normalise_icd(code: str) -> str:
    """Spell an ICD code as MIMIC-IV does: upper case, no dot, no space.

    >>> normalise_icd(" i50.9 ")
    'I509'
    """
    return "".join(code.split()).replace(".", "").upper()


RACES = {
    "ASIAN": "Asian",
    "BLACK": "Black",
    "HISPANIC": "Hispanic or Latino",
    "WHITE": "White",
    "UNKNOWN": None,
    "UNABLE": None,
    "PATIENT": None,
}
"""Groups of MIMIC-IV's race labels by their first word; UNABLE TO OBTAIN and PATIENT DECLINED are unknown."""
OTHER_RACE = "other"


def race_group(race: str | None) -> str | None:
    """Return the group of a race label; None: unknown.

    >>> race_group("WHITE - RUSSIAN"), race_group("PORTUGUESE"), race_group("UNABLE TO OBTAIN")
    ('White', 'other', None)
    """
    word = re.match(r"\w+", race) if race else None
    return RACES.get(word[0], OTHER_RACE) if word else None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One coded or free-text diagnosis; at least one of code and title is known.

    Attributes:
        icd_code: undotted, upper case, leading zeros kept; None for free text.
        icd_version: 9 or 10, without which a code means nothing; None for free text.
        title: the code's long title, or the free text; None where the dictionary has no title.
    """

    icd_code: str | None = None
    icd_version: int | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of one stay when a draft is asked for. None is "unknown", never a default.

    Attributes:
        age: years at admission; 91 stands for any age over 89.
        sex: "F" or "M".
        height_cm, weight_kg: body measurements.
        bmi: kg/m²; where None it follows from height and weight, if both are known.
        systolic_mmhg, diastolic_mmhg: blood pressure.
        diagnoses: in the order the coders ranked them; empty where they are not known.
        previous_drugs: canonical drugs of the patient's previous admission; None: no such stay is known.
        current_drugs: canonical drugs ordered in this stay so far; None: not asked within the stay.
        earlier_diagnoses: those of earlier stays, the latest first; None: not asked for.
    """

    diagnoses: tuple[Diagnosis, ...]
    age: int | None = None
    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    bmi: float | None = None
    systolic_mmhg: float | None = None
    diastolic_mmhg: float | None = None
    previous_drugs: tuple[str, ...] | None = None
    current_drugs: tuple[str, ...] | None = None
    earlier_diagnoses: tuple[Diagnosis, ...] | None = None

    @property
    def body_mass_index(self) -> float | None:
        """BMI as measured, else weight / height²; kg/m²."""
        if self.bmi is not None or self.height_cm is None or self.weight_kg is None:
            return self.bmi
        return self.weight_kg / (self.height_cm / 100) ** 2
