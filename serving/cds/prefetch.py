"""What a call says of its patient: the prefetched FHIR data as facts, with what is missing or incomplete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.cds.discovery import QUERIES
from serving.fhir import clinical
from serving.fhir.read import Found, by_reference, read_found

MOST_ALLERGIES = 100
"""In a `DraftRequest`."""

Lab = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """Facts of one patient; None: not given, (): none recorded.

    Attributes:
        diagnoses: as `DraftRequest` takes them.
        drugs: by the id of the order, "" where it has none; None as the name of one that cannot be read.
        creatinine_mg_dl, potassium_mmol_l: value and hours ago.
        gaps: prefetch keys that the client did not or only partly answer.
    """

    age: int | None
    sex: str | None
    diagnoses: tuple[dict[str, Any], ...] | None
    allergies: tuple[str, ...] | None
    drugs: tuple[tuple[str, str | None], ...] | None
    creatinine_mg_dl: Lab | None
    potassium_mmol_l: Lab | None
    gaps: tuple[str, ...]

    def to_draft_request(self) -> dict[str, Any]:
        """Return what a draft is made from; lists that are not whole are left out, since a draft would call them so."""
        names = None if self.drugs is None or "medications" in self.gaps else [name for _, name in self.drugs if name]
        whole = None if "allergies" in self.gaps or len(self.allergies or ()) > MOST_ALLERGIES else self.allergies
        return {
            "diagnoses": list(self.diagnoses or ()),
            "age": self.age,
            "sex": self.sex,
            "current_drugs": names and list(dict.fromkeys(names))[:300],
            "allergies": None if whole is None else [{"substance": name[:200]} for name in whole],
            "creatinine_mg_dl": _lab(self.creatinine_mg_dl),
            "potassium_mmol_l": _lab(self.potassium_mmol_l),
        }

    def digest(self) -> str:
        """Return a SHA-256 of what a draft is made from; the same facts an hour later have the same."""
        request = self.to_draft_request()
        for lab in ("creatinine_mg_dl", "potassium_mmol_l"):
            request[lab] = request[lab] and request[lab]["value"]
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def missing_keys(prefetch: Mapping[str, Any], required: tuple[str, ...], patient_id: str) -> list[str]:
    """Return the required keys that the client did not answer, or answered for somebody else."""
    return [key for key in required if not _answered(key, prefetch, patient_id)]


def read_facts(
    prefetch: Mapping[str, Any], patient_id: str, now: datetime, known: Callable[[str], bool]
) -> PatientFacts:
    """Read every key that discovery declares.

    Args:
        prefetch: as sent.
        patient_id: of the context; what is about others is left out.
        now: with a time zone; ages and hours count back from it.
        known: tells a drug's name that screening understands.
    """
    found = {key: _find(key, prefetch, patient_id) for key in QUERIES}
    patient = next(iter(found["patient"].resources), {})
    orders, others = found["medications"].resources, by_reference(prefetch.get("medications"))
    drugs = tuple((str(one.get("id") or ""), clinical.drug_name(one, others, known)) for one in filter(_runs, orders))
    return PatientFacts(
        age=clinical.age(patient, now.date()),
        sex=clinical.sex(patient),
        diagnoses=_if_given(found["conditions"], clinical.diagnoses),
        allergies=_if_given(found["allergies"], clinical.allergies),
        drugs=drugs if found["medications"].given else None,
        creatinine_mg_dl=clinical.latest(found["creatinine"].resources, clinical.CREATININE, now),
        potassium_mmol_l=clinical.latest(found["potassium"].resources, clinical.POTASSIUM, now),
        gaps=tuple(key for key, one in found.items() if not one.complete and key not in _NEWEST),
    )


_NEWEST = ("patient", "creatinine", "potassium")
"""Keys that ask for one thing, where further pages do not matter."""

_runs = clinical.is_running


def _find(key: str, prefetch: Mapping[str, Any], patient_id: str) -> Found:
    return read_found(prefetch[key], QUERIES[key][0], patient_id) if key in prefetch else Found()


def _answered(key: str, prefetch: Mapping[str, Any], patient_id: str) -> bool:
    found = _find(key, prefetch, patient_id)
    return bool(found.resources) if key == "patient" else found.given


def _if_given(found: Found, read: Callable[[Any], list[Any]]) -> tuple[Any, ...] | None:
    return tuple(read(found.resources)) if found.given else None


def _lab(lab: Lab | None) -> dict[str, float] | None:
    return None if lab is None else {"value": round(lab[0], 3), "hours_ago": min(round(lab[1], 1), 1e6)}
