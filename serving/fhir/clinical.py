"""What single FHIR R4 resources say of a patient, in the words of our API; None where they do not say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any, Literal

from serving.fhir.atc import ingredient
from serving.fhir.read import Resource, codes, codings, field, objects, resolve, text
from serving.fhir.systems import ATC, ICD_VERSIONS, LOINC, RXNORM

CREATININE = ("2160-0", "38483-4")
"""LOINC: in serum or plasma, in blood."""
POTASSIUM = ("2823-3", "6298-4")
"""LOINC: in serum or plasma, in blood."""

_TO_MG_DL = {"mg/dl": 1.0, "umol/l": 1 / 88.42, "µmol/l": 1 / 88.42, "μmol/l": 1 / 88.42, "mmol/l": 1000 / 88.42}
_TO_MMOL_L = {"mmol/l": 1.0, "meq/l": 1.0, "mg/dl": 1 / 3.9098, "umol/l": 0.001, "µmol/l": 0.001, "μmol/l": 0.001}
UNITS: dict[tuple[str, ...], dict[str, float]] = {CREATININE: _TO_MG_DL, POTASSIUM: _TO_MMOL_L}
"""Factors from a unit to mg/dL of creatinine (113.12 g/mol) and mmol/L of potassium (39.098 g/mol)."""

_MOST = 10_000
"""No measurement in any of the units is as large; not finite ones are not either."""

_NOT_SO = {"refuted", "entered-in-error"}
_OVER = {"resolved", "inactive"}
_NO_ALLERGY = {"716186003", "409137002", "428607008", "429625007", "no-known-allergies", "nka", "nkda"}
_RUNNING = (None, "active", "draft", "on-hold", "unknown")
_ICD = re.compile(r"[A-Za-z0-9]{2,7}(\.[A-Za-z0-9]{0,6})?")


def sex(patient: Resource) -> Literal["F", "M"] | None:
    """Return the sex that the models know; None: other, unknown or not said."""
    genders: dict[Any, Literal["F", "M"]] = {"female": "F", "male": "M"}
    return genders.get(text(patient.get("gender")))


def age(patient: Resource, today: date) -> int | None:
    """Return completed years by the birth date, which may be a year or a month alone: then the fewest it can be."""
    said = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text(patient.get("birthDate")) or "")
    if said is None:
        return None
    year, month, day = int(said[1]), int(said[2] or 12), int(said[3] or 31)
    years = today.year - year - ((today.month, today.day) < (month, day))
    return years if 0 <= years <= 130 else None


def diagnoses(conditions: Iterable[Resource]) -> list[dict[str, Any]]:
    """Return the diagnoses of Conditions as `DraftRequest` takes them, those of the stay before the problem list.

    Resolved, inactive, refuted and mistaken ones are left out, as are those that neither code nor words name.
    """
    standing = [one for one in conditions if _stands(one)]
    standing.sort(key=lambda one: "encounter-diagnosis" not in _categories(one))
    told = (_diagnosis(field(one, "code")) for one in standing)
    distinct = {tuple(one.items()): one for one in told if one}
    return list(distinct.values())[:300]


def allergies(intolerances: Iterable[Resource]) -> list[str]:
    """Return the substances of AllergyIntolerances; a recorded "no known allergy" adds none."""
    standing = [one for one in intolerances if _stands(one) and not _denies(one)]
    named = [name for one in standing if (name := concept_name(one.get("code"))) or (name := _reaction(one))]
    return list(dict.fromkeys(named))[:300]


def drug_name(request: Resource, others: dict[str, Resource], known: Callable[[str], bool]) -> str | None:
    """Return the name of what a MedicationRequest orders; None: it names nothing that can be read.

    Args:
        request: with a concept, or a reference to a Medication.
        others: what came with it, see `read.by_reference`.
        known: tells a name that screening understands; of several names the first of those is taken.
    """
    concept = request.get("medicationCodeableConcept")
    if concept is None:
        medication = resolve(request.get("medicationReference"), request, others)
        concept = field(medication, "code")
        ingredients = [concept_name(one.get("itemCodeableConcept")) for one in objects(field(medication, "ingredient"))]
        if concept is None and ingredients and all(ingredients):
            return " / ".join(filter(None, ingredients))[:200]
        said = text(field(request.get("medicationReference"), "display"), 200)
    else:
        said = None
    names = [*_names(concept), *([said] if said else [])]
    return next(filter(known, names), names[0] if names else None)


def is_running(request: Resource) -> bool:
    """Tell whether a MedicationRequest may still be given; one that forbids a drug may not."""
    return request.get("status") in _RUNNING and request.get("doNotPerform") is not True


def latest(observations: Iterable[Resource], loinc: tuple[str, ...], now: datetime) -> tuple[float, float] | None:
    """Return (value, hours ago) of the newest measurement of a kind; None: there is none that can be read.

    Args:
        observations: those of another code, in a unit of another kind, without a time or below a limit of detection
            are passed over.
        loinc: a key of `UNITS`, which says the unit of the value.
        now: with a time zone; what is dated after it counts as measured now.
    """
    found = [one for observation in observations if (one := _measured(observation, loinc))]
    if not found:
        return None
    value, moment = max(found, key=lambda one: one[1])
    return value, max(0.0, (now - moment).total_seconds() / 3600)


def concept_name(concept: Any) -> str | None:
    """Return what a CodeableConcept is called; None: it is not."""
    return next(iter(_names(concept)), None)


def moment(value: Any) -> datetime | None:
    """Read a FHIR dateTime; a day alone is its midnight, a time without zone is UTC; None: it is neither."""
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) and len(value) >= len("2026-11-21") else None
        return read and (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _names(concept: Any) -> list[str]:
    """Names in the order we trust them: RxNorm's, what was written, others' displays, the ATC code's ingredient."""
    coded = codings(concept)
    rxnorm = [display for system, _, display in coded if system == RXNORM and display]
    written = [name] if (name := text(field(concept, "text"), 200)) else []
    displays = [display[:200] for _, _, display in coded if display]
    atc = [ingredient(code) or code for system, code, _ in coded if system == ATC]
    return [*(name[:200] for name in rxnorm), *written, *displays, *atc]


def _diagnosis(concept: Any) -> dict[str, Any] | None:
    coded = {system: code for system, code, _ in codings(concept) if _ICD.fullmatch(code) and len(code) <= 10}
    for system, version in ICD_VERSIONS.items():
        if system in coded:
            return {"icd_code": coded[system], "icd_version": version}
    name = concept_name(concept)
    return {"text": name} if name else None


def _stands(resource: Resource) -> bool:
    return not (codes(resource.get("verificationStatus")) & _NOT_SO or codes(resource.get("clinicalStatus")) & _OVER)


def _categories(condition: Resource) -> set[str]:
    return {code for category in objects(condition.get("category")) for code in codes(category)}


def _denies(intolerance: Resource) -> bool:
    return bool({code.lower() for code in codes(intolerance.get("code"))} & _NO_ALLERGY)


def _reaction(intolerance: Resource) -> str | None:
    substances = (concept_name(reaction.get("substance")) for reaction in objects(intolerance.get("reaction")))
    return next(filter(None, substances), None)


def _measured(observation: Resource, loinc: tuple[str, ...]) -> tuple[float, datetime] | None:
    coded = {code for system, code, _ in codings(observation.get("code")) if system == LOINC}
    quantity, when = observation.get("valueQuantity"), _effective(observation)
    number, unit = field(quantity, "value"), text(field(quantity, "code")) or text(field(quantity, "unit")) or ""
    factor = UNITS[loinc].get(unit.lower().replace("[", "").replace("]", ""))
    void = observation.get("status") in ("entered-in-error", "cancelled") or field(quantity, "comparator")
    if void or not coded & set(loinc) or factor is None or when is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < _MOST:
        return None
    return number * factor, when


def _effective(observation: Resource) -> datetime | None:
    period = observation.get("effectivePeriod")
    said = (observation.get("effectiveDateTime"), observation.get("effectiveInstant"), field(period, "end"))
    return next((read for one in said if (read := moment(one))), None)
