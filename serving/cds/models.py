"""The words of CDS Hooks 2.0.1: calls are read leniently, answers are written strictly.

What we never send has no field: no system actions, no recommended suggestion, no update, no delete.
Source: cds-hooks.hl7.org/2.0.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from serving.fhir.models import MedicationRequest, Text
from serving.schemas.requests import VISIBLE

Indicator = Literal["info", "warning", "critical"]


def _without_controls(name: str) -> str:
    """Drop control characters, which a database may refuse."""
    return "".join(character for character in name if unicodedata.category(character) != "Cc")


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=VISIBLE),
    AfterValidator(_without_controls),
]


class _Sent(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )

    def to_json(self) -> dict[str, Any]:
        """Return it as the wire has it: camel case, no null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class _Received(BaseModel):
    # What a later version or an extension adds is passed over; fhirAuthorization is thereby dropped unread.
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, hide_input_in_errors=True)


class CdsService(_Sent):
    """A service, as discovery tells of it."""

    hook: Literal["patient-view", "order-select", "order-sign"]
    id: Text
    title: Text
    description: Text
    usage_requirements: Text
    prefetch: dict[str, str]


class Discovery(_Sent):
    """All of them."""

    services: tuple[CdsService, ...]


class Coding(_Sent):
    """A code, with the words for it."""

    system: Text
    code: Text
    display: Text


class Source(_Sent):
    """What a card's content comes from."""

    label: Text
    url: Text
    """A page about the model or the rules; nothing of a patient."""
    topic: Coding


class Action(_Sent):
    """The making of a draft order, by the client and on a person's click."""

    type: Literal["create"] = "create"
    description: Text
    resource: MedicationRequest


class Suggestion(_Sent):
    """One drug; the actions of one suggestion would apply together."""

    label: Text
    uuid: Text
    actions: tuple[Action, ...] = Field(min_length=1, max_length=1)


class Link(_Sent):
    """A page to open."""

    label: Text
    url: Text
    type: Literal["absolute"] = "absolute"


class Card(_Sent):
    """Advice."""

    uuid: Text
    summary: Annotated[str, StringConstraints(min_length=1, max_length=139)]
    detail: Text
    """GitHub Flavored Markdown, without HTML."""
    indicator: Indicator
    source: Source
    selection_behavior: Literal["at-most-one", "any"] | None = None
    suggestions: tuple[Suggestion, ...] | None = Field(default=None, min_length=1)
    override_reasons: tuple[Coding, ...] | None = Field(default=None, min_length=1)
    links: tuple[Link, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _how_to_choose(self) -> Card:
        if (self.suggestions is None) != (self.selection_behavior is None):
            raise ValueError("suggestions need a selectionBehavior, and it needs them")
        return self


class Cards(_Sent):
    """The answer to a call; no advice is an empty list."""

    cards: tuple[Card, ...]


class Context(_Received):
    """Where in the client's work the hook fired."""

    user_id: Name
    patient_id: Name
    encounter_id: Name | None = None
    selections: list[Name] | None = Field(default=None, max_length=1000)
    draft_orders: dict[str, Any] | None = None

    @field_validator("patient_id", "encounter_id")
    @classmethod
    def _id_alone(cls, said: str | None) -> str | None:
        """Take a reference for the id that it ends with, as some clients send it."""
        return said and (said.rstrip("/").rpartition("/")[2] or said)


class Call(_Received):
    """A hook that fired."""

    hook: Name
    hook_instance: Name
    context: Context
    prefetch: dict[str, Any] | None = None


class AcceptedSuggestion(_Received):
    """One that the user took."""

    id: Name


class Reason(_Received):
    """A coded reason."""

    code: Name
    system: Name | None = None


class OverrideReason(_Received):
    """Why a card was put aside."""

    reason: Reason | None = None
    user_comment: Annotated[str, StringConstraints(max_length=4000)] | None = None


class _Outcome(_Received):
    card: Name
    outcome_timestamp: Name


class Accepted(_Outcome):
    """Suggestions of a card were taken."""

    outcome: Literal["accepted"]
    accepted_suggestions: list[AcceptedSuggestion] = Field(min_length=1, max_length=300)


class Overridden(_Outcome):
    """A card was put aside."""

    outcome: Literal["overridden"]
    override_reason: OverrideReason | None = None


class Feedback(_Received):
    """What became of some cards."""

    feedback: list[Annotated[Accepted | Overridden, Field(discriminator="outcome")]] = Field(
        min_length=1, max_length=500
    )
