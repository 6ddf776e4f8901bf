"""The few FHIR R4 resources that we write, with only the elements that we fill; codes are closed lists.

Source: hl7.org/fhir/R4. Unknown elements are refused, so that a slip fails in our tests and not in a hospital.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel

Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


def _to_the_second(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


Instant = Annotated[AwareDatetime, PlainSerializer(_to_the_second)]


class Element(BaseModel):
    """What every part of a resource has in common."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )

    def to_json(self) -> dict[str, Any]:
        """Return it as FHIR's JSON has it: camel case, and nothing empty."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Coding(Element):
    """A code of a system."""

    system: Text
    code: Text
    display: Text | None = None


class CodeableConcept(Element):
    """A concept, in words or in codes that all mean the same."""

    text: Text | None = None
    coding: tuple[Coding, ...] | None = Field(default=None, min_length=1)


class Identifier(Element):
    """A name for a thing in the numbering of a system."""

    system: Text
    value: Text


class Reference(Element):
    """Another resource, or only what it is called."""

    reference: Text | None = None
    display: Text | None = None


class Annotation(Element):
    """A note in words."""

    text: Text


class Extension(Element):
    """A fact for which FHIR has no element."""

    url: Text
    value_positive_int: int | None = Field(default=None, ge=1)
    value_decimal: float | None = None


class Meta(Element):
    """Labels of a resource."""

    tag: tuple[Coding, ...] = Field(min_length=1)


class MedicationRequest(Element):
    """A drug that is proposed to a clinician and ordered by nobody; it has no dose, since none is known."""

    resource_type: Literal["MedicationRequest"] = "MedicationRequest"
    extension: tuple[Extension, ...] | None = Field(default=None, min_length=1)
    status: Literal["draft"] = "draft"
    intent: Literal["proposal"] = "proposal"
    medication_codeable_concept: CodeableConcept
    subject: Reference
    encounter: Reference | None = None
    authored_on: Instant | None = None
    note: tuple[Annotation, ...] = Field(min_length=1)


class DetectedIssue(Element):
    """What a rule found."""

    resource_type: Literal["DetectedIssue"] = "DetectedIssue"
    status: Literal["preliminary"] = "preliminary"
    code: CodeableConcept
    severity: Literal["high", "moderate", "low"]
    patient: Reference
    identified_date_time: Instant
    implicated: tuple[Reference, ...] = Field(min_length=1)
    detail: Text
    reference: Text
    """The page of the rule."""


IssueType = Literal[
    "informational",
    "processing",
    "invalid",
    "structure",
    "required",
    "too-long",
    "not-supported",
    "not-found",
    "login",
    "forbidden",
    "conflict",
    "throttled",
    "transient",
    "timeout",
    "exception",
]
"""Of FHIR's issue types, those that `serving.problems` and our Bundles use."""


class OutcomeIssue(Element):
    """One thing to be told."""

    severity: Literal["fatal", "error", "warning", "information"]
    code: IssueType
    details: CodeableConcept
    diagnostics: Text | None = None


class OperationOutcome(Element):
    """What the reader of a Bundle, or the caller of a service, must know."""

    resource_type: Literal["OperationOutcome"] = "OperationOutcome"
    issue: tuple[OutcomeIssue, ...] = Field(min_length=1)


class Entry(Element):
    """A resource under its own name."""

    full_url: Text
    resource: MedicationRequest | DetectedIssue | OperationOutcome


class Bundle(Element):
    """A heap of resources; of type collection, which no server may execute."""

    resource_type: Literal["Bundle"] = "Bundle"
    type: Literal["collection"] = "collection"
    meta: Meta
    identifier: Identifier
    timestamp: Instant
    entry: tuple[Entry, ...] = Field(min_length=1)
