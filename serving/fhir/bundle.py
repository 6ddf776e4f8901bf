"""A draft as a FHIR R4 Bundle: proposals, what the rules found, and what was not screened.

No dose, no route and no reason for a drug stands in it: the draft knows none of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from serving.fhir.models import (
    Annotation,
    Bundle,
    CodeableConcept,
    Coding,
    DetectedIssue,
    Entry,
    Extension,
    Identifier,
    MedicationRequest,
    Meta,
    OperationOutcome,
    OutcomeIssue,
    Reference,
)
from serving.fhir.systems import ACT_CODE, ATC

NOT_IDENTIFIED = "Patient not identified to this service"
RECHECK = "No dose proposed. Check again in the hospital's own system; in Korea, with the DUR service."

_SEVERITIES: Mapping[str, Literal["high", "moderate", "low"]] = {"critical": "high", "warning": "moderate"}
_ISSUES = {"DRG": "Drug Interaction Alert", "ALGY": "Allergy Alert", "DUPTHPY": "Duplicate Therapy Alert"}


def draft_bundle(
    draft: dict[str, Any], base_url: str, patient_id: str | None = None, encounter_id: str | None = None
) -> dict[str, Any]:
    """Write a draft as it reads now as a Bundle of type collection.

    Rejected drugs are left out and edited ones stand as edited; the same draft gives the same bytes.

    Args:
        draft: as `GET /v1/drafts/{id}` gives it, ready or final.
        base_url: of this service, without a slash at its end.
        patient_id, encounter_id: of the hospital's FHIR server; None: the draft is of nobody named.
    """
    writer = _Writer(draft, base_url, subject(patient_id), encounter_id)
    bundle = Bundle(
        meta=Meta(tag=(Coding(system=f"{base_url}/fhir/disclaimer", code=draft["disclaimer_id"]),)),
        identifier=Identifier(system=f"{base_url}/fhir/draft", value=draft["draft_id"]),
        timestamp=writer.moment,
        entry=tuple(writer.entries()),
    )
    return bundle.to_json()


def proposal(
    drug: str, atc: tuple[str, ...] = (), patient_id: str | None = None, encounter_id: str | None = None
) -> MedicationRequest:
    """Return the smallest proposal of a drug, as a card's suggestion carries it."""
    return MedicationRequest(
        medication_codeable_concept=concept(drug, atc),
        subject=subject(patient_id),
        encounter=encounter(encounter_id),
        note=(Annotation(text=f"Draft for clinician review. {RECHECK}"),),
    )


def concept(drug: str, atc: tuple[str, ...]) -> CodeableConcept:
    """Name a drug; coded only where one code means all of it, since the codings of a concept are synonyms."""
    coding = (Coding(system=ATC, code=atc[0]),) if len(atc) == 1 else None
    return CodeableConcept(text=drug, coding=coding)


def subject(patient_id: str | None) -> Reference:
    """Return whom it is for; FHIR wants a subject even where nobody is named."""
    return Reference(reference=f"Patient/{patient_id}") if patient_id else Reference(display=NOT_IDENTIFIED)


def encounter(encounter_id: str | None) -> Reference | None:
    """Return the stay; None: not named."""
    return Reference(reference=f"Encounter/{encounter_id}") if encounter_id else None


class _Writer:
    """One draft on its way into a Bundle."""

    def __init__(self, draft: dict[str, Any], base_url: str, patient: Reference, encounter_id: str | None) -> None:
        self.draft, self.base_url, self.patient = draft, base_url, patient
        self.encounter = encounter(encounter_id)
        self.moment = datetime.fromisoformat(draft["created_at"])

    def entries(self) -> Iterator[Entry]:
        """Every resource under a name made of the draft's and its own."""
        for row in self.draft["drugs"]:
            if _decision(row) != "reject":
                yield Entry(full_url=self._name(row["item_id"]), resource=self._request(row))
        for alert in self.draft["screening"]["alerts"]:
            yield Entry(full_url=self._name(alert["alert_id"]), resource=self._issue(alert))
        yield Entry(full_url=self._name("screening"), resource=self._outcome())

    def _name(self, part: str) -> str:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.base_url}/drafts/{self.draft['draft_id']}#{part}").urn

    def _request(self, row: dict[str, Any]) -> MedicationRequest:
        edited = row["review"].get("edited_drug") if _decision(row) == "edit" else None
        extensions = [self._extension("rank", value_positive_int=row["rank"])]
        if edited is None and row.get("probability") is not None:
            extensions.append(self._extension("probability", value_decimal=row["probability"]))
        return MedicationRequest(
            extension=tuple(extensions),
            medication_codeable_concept=concept(edited or row["drug"], () if edited else tuple(row.get("atc", ()))),
            subject=self.patient,
            encounter=self.encounter,
            authored_on=self.moment,
            note=(Annotation(text=self._note(row)),),
        )

    def _extension(self, name: str, **value: Any) -> Extension:
        return Extension(url=f"{self.base_url}/fhir/StructureDefinition/draft-{name}", **value)

    def _note(self, row: dict[str, Any]) -> str:
        review = {
            None: "Not reviewed yet.",
            "accept": "Accepted in review.",
            "edit": f"Changed in review from: {row['drug']}.",
        }[_decision(row)]
        model = self.draft.get("versions", {}).get("model", "not named")
        return f"Draft for clinician review. {review} {RECHECK} Model {model}."

    def _issue(self, alert: dict[str, Any]) -> DetectedIssue:
        code = alert["code"]
        requests = [Reference(reference=self._name(item)) for item in alert["items"]]
        orders = [Reference(display=drug) for drug in alert["current"]]
        return DetectedIssue(
            code=CodeableConcept(coding=(Coding(system=ACT_CODE, code=code, display=_ISSUES.get(code)),)),
            severity=_SEVERITIES.get(alert["tier"], "low"),
            patient=self.patient,
            identified_date_time=self.moment,
            implicated=(*requests, *orders),
            detail=f"Rule {alert['rule_id']} v{alert['rule_version']}: {alert['message']['en']}",
            reference=f"{self.base_url}/about/rules/{alert['rule_id']}",
        )

    def _outcome(self) -> OperationOutcome:
        told = CodeableConcept(text=self.draft["screening"]["summary"]["en"])
        return OperationOutcome(issue=(OutcomeIssue(severity="information", code="informational", details=told),))


def _decision(row: dict[str, Any]) -> str | None:
    return (row.get("review") or {}).get("decision")
