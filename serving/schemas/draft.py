"""What the API gives: a draft, its drugs, and what the reader must know of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from serving.evidence import Evidence
from serving.explain import Reason
from serving.schemas.identity import Identity
from serving.screening import Alert, Screening

State = Literal["queued", "running", "ready", "failed", "cancelled", "final"]


def _unknown(value: Any) -> bool:
    return value is None


class Review(BaseModel):
    """The decision about a drug that counts: the latest."""

    decision: Literal["accept", "edit", "reject"]
    edited_drug: str | None = Field(None, exclude_if=_unknown)
    reason_code: str | None = Field(None, exclude_if=_unknown)
    reason_text: str | None = Field(None, exclude_if=_unknown)
    reviewed_at: datetime


class DraftedDrug(BaseModel):
    """A drug of the list; rank 1 came first."""

    item_id: str
    rank: int
    drug: str
    ingredients: tuple[str, ...] = ()
    """As US pharmacies name them; empty: the drug is unknown to the screening."""
    atc: tuple[str, ...] = ()
    probability: float | None = Field(None, exclude_if=_unknown)
    """Of being ordered in the stay, in [0, 1], four decimals; only from what knows it."""
    because: tuple[Reason, ...] | None = Field(None, exclude_if=_unknown)
    """What the probability would be lower without, the largest drop first; empty: without nothing by itself."""
    evidence: Evidence | None = Field(None, exclude_if=_unknown)
    """How often it was ordered in training admissions with a principal diagnosis of the same ICD-10 category."""
    review: Review | None = Field(None, exclude_if=_unknown)


class AnswerState(BaseModel):
    """Whether the model's answer was a list; the failure class where it was none."""

    well_formed: bool
    outcome: str


class Warning(BaseModel):  # noqa: A001
    """Something the reader of the list must know.

    Codes: unknown_icd_code (the dictionary has no title; a model saw the bare code), diagnosis_left_out
    (the prompt was too long), diagnosis_not_used (it has no code, or one of a kind that no training admission had),
    not_in_formulary (no training admission had this drug), not_well_formed, not_explained (what `because` lacks).
    """

    code: Literal[
        "unknown_icd_code",
        "diagnosis_left_out",
        "diagnosis_not_used",
        "not_in_formulary",
        "not_well_formed",
        "not_explained",
    ]
    position: int | None = None
    """Which diagnosis (from 1, as sent) or drug (its rank) is meant."""
    detail: str


class DraftedList(BaseModel):
    """A list as a recommender gave it, in the API's words."""

    drugs: list[DraftedDrug] = []
    probabilities: str | None = Field(None, exclude_if=_unknown)
    """What they are: calibrated on so many validation admissions, or uncalibrated."""
    answer: AnswerState | None = Field(None, exclude_if=_unknown)
    """Null: not drafted yet."""
    model: Identity | None = Field(None, exclude_if=_unknown)
    warnings: list[Warning] = []


class Versions(BaseModel):
    """Of everything that had a part in the draft."""

    rxdraft: str
    model: str
    """As GET /v1/models names it."""
    adapter_sha256: str | None = Field(None, exclude_if=_unknown)
    prompt: str | None = Field(None, exclude_if=_unknown)
    formulary_sha256: str
    calibration_sha256: str | None = Field(None, exclude_if=_unknown)
    rules: str


class Inputs(BaseModel):
    """Which facts of a request were given; no value."""

    used: list[str] = []
    missing: list[str] = []


class ItemAlert(Alert):
    """An alert, and which rows of the draft it speaks of."""

    items: tuple[str, ...] = ()


class Screened(Screening):
    """What the rules said of a draft."""

    alerts: tuple[ItemAlert, ...] = ()
    """The most severe first."""


class Content(DraftedList):
    """What a draft says, as it is kept; `rxdraft recommend` prints it."""

    status: Literal["draft"] = "draft"
    """Always: nothing here is a prescription."""
    disclaimer_id: Literal["research-v1"] = "research-v1"
    """Research software; a draft for a clinician's review, not for time-critical use."""
    versions: Versions | None = Field(None, exclude_if=_unknown)
    inputs: Inputs | None = Field(None, exclude_if=_unknown)
    screening: Screened | None = Field(None, exclude_if=_unknown)
    """Of the list as it reads now: rejected drugs left out, edited ones as edited."""


class Draft(Content):
    """A draft for a clinician to accept, edit or reject; no prescription."""

    draft_id: str
    state: State
    version: int
    """Grows with every change; what a review or finalize names as `if_version`."""
    created_at: datetime
    position: int | None = Field(None, exclude_if=_unknown)
    """Of a queued draft: 1 is next."""
    failure: str | None = Field(None, exclude_if=_unknown)
    """Why there is no list: a problem's code."""
    facts: dict[str, Any] | None = Field(None, exclude_if=_unknown)
    """The request, each coded diagnosis with its title, null where the dictionary has none; while it is kept."""


class DraftSummary(BaseModel):
    """A line of the history."""

    draft_id: str
    state: State
    created_at: datetime
    version: int
    drugs: int
    decided: int


class Drafts(BaseModel):
    """One's own drafts, the newest first."""

    drafts: list[DraftSummary]
