"""Which services there are, and what each wants to be sent along. One id per hook: some clients key services by URL."""

from __future__ import annotations

from dataclasses import dataclass

from serving.cds.models import CdsService, Discovery

_PATIENT = "{{context.patientId}}"

QUERIES = {
    "patient": ("Patient", f"Patient/{_PATIENT}"),
    "conditions": ("Condition", f"Condition?patient={_PATIENT}"),
    "allergies": ("AllergyIntolerance", f"AllergyIntolerance?patient={_PATIENT}"),
    "medications": ("MedicationRequest", f"MedicationRequest?patient={_PATIENT}&status=active"),
    "creatinine": (
        "Observation",
        f"Observation?patient={_PATIENT}&code=http://loinc.org|2160-0&_count=1&_sort=-date",
    ),
    "potassium": (
        "Observation",
        f"Observation?patient={_PATIENT}&code=http://loinc.org|2823-3&_count=1&_sort=-date",
    ),
}
"""The type of what each prefetch key holds, and the query for it."""

USAGE = "FHIR R4. Uses prefetch only and never calls the FHIR server. Research software: every draft needs review."


@dataclass(frozen=True, slots=True)
class Hooked:
    """One service of ours.

    Attributes:
        wire: as discovery tells of it.
        required: prefetch keys without which it cannot answer.
    """

    wire: CdsService
    required: tuple[str, ...]


def _service(hook: str, service_id: str, title: str, description: str, required: tuple[str, ...]) -> tuple[str, Hooked]:
    prefetch = {key: query for key, (_, query) in QUERIES.items()}
    wire = CdsService.model_validate(
        {
            "hook": hook,
            "id": service_id,
            "title": title,
            "description": description,
            "usageRequirements": USAGE,
            "prefetch": prefetch,
        }
    )
    return service_id, Hooked(wire, required)


PATIENT_VIEW, ORDER_SELECT, ORDER_SIGN = "rx-draft-patient-view", "rx-safety-order-select", "rx-safety-order-sign"

SERVICES = dict(
    [
        _service(
            "patient-view",
            PATIENT_VIEW,
            "Draft prescription list",
            "Returns a draft medication list for clinician review. Never places orders.",
            ("patient", "conditions"),
        ),
        _service(
            "order-select",
            ORDER_SELECT,
            "Screening of the selected orders",
            "Screens the selected medication orders by cited rules against all others. Never changes orders.",
            ("patient",),
        ),
        _service(
            "order-sign",
            ORDER_SIGN,
            "Last screening before signing",
            "Screens medication orders by cited rules when they are signed. Never changes orders.",
            ("patient",),
        ),
    ]
)
"""By id. Screening goes without diagnoses: an allergy must be told of even where they could not be fetched."""


def discovery() -> Discovery:
    """Tell of all services."""
    return Discovery(services=tuple(service.wire for service in SERVICES.values()))
