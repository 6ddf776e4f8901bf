"""What the rules may look at: a patient as far as screening knows one. None is "not given", () is "none recorded"."""

from __future__ import annotations

from dataclasses import dataclass

from etl.domain import Diagnosis


@dataclass(frozen=True, slots=True)
class Allergy:
    """A recorded allergy.

    Attributes:
        substance: a drug in any spelling, or a class as clinicians write it ("penicillins", "sulfa", "NSAIDs").
    """

    substance: str


@dataclass(frozen=True, slots=True)
class Lab:
    """The last value of a laboratory test.

    Attributes:
        value: in the unit that the field of `Facts` names.
        hours_ago: since the result was known, 0 or more; an old value is not evaluated.
    """

    value: float
    hours_ago: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the patient when the drugs are screened.

    Attributes:
        current_drugs: already ordered, in any spelling; None: not given.
        allergies: None: not given; (): none recorded.
        diagnoses: coded ones may tell of a pregnancy.
        age: years; 91 stands for any age over 89.
        sex: "F" or "M".
        pregnant, lactating: outrank what the diagnoses say.
        creatinine_mg_dl: of serum; gives an eGFR where none is given.
        egfr: mL/min/1.73 m².
        potassium_mmol_l: of serum, plasma or blood; mmol/L, which equals mEq/L.
    """

    current_drugs: tuple[str, ...] | None = None
    allergies: tuple[Allergy, ...] | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    age: int | None = None
    sex: str | None = None
    pregnant: bool | None = None
    lactating: bool | None = None
    creatinine_mg_dl: Lab | None = None
    egfr: Lab | None = None
    potassium_mmol_l: Lab | None = None
