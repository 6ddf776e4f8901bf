"""What screening says, as it is stored and sent: alerts, what was evaluated, and what was not."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Tier = Literal["critical", "warning", "info"]
TIERS: tuple[Tier, ...] = ("critical", "warning", "info")
"""Most severe first. Critical interrupts; a warning is a badge; info is folded away."""

IssueCode = Literal["ALGY", "DRG", "DUPTHPY", "LAB", "PREG", "LACT", "AGE"]
"""HL7 v3-ActCode: allergy, interaction, duplicate therapy, laboratory value, pregnancy, lactation, age."""


class _Finding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Finding):
    """One sentence in both languages of the page."""

    en: str
    ko: str


class Alert(_Finding):
    """A rule that fired, once for all the drugs it speaks of."""

    alert_id: str
    """Of this screening: "a1" is the most severe."""
    rule_id: str
    rule_version: str
    check: str
    """One of CHECKS."""
    tier: Tier
    code: IssueCode
    drugs: tuple[str, ...]
    """Proposed drugs, in every spelling in which they were written; never empty."""
    current: tuple[str, ...] = ()
    """Drugs already ordered that take part, as they were written."""
    message: Text
    """Begins with the drugs."""
    citation: str
    url: str | None = None


class NotEvaluated(_Finding):
    """A check that could say nothing, or not all."""

    check: str
    """One of CHECKS."""
    reason: Literal["input_missing", "stale", "not_recognised", "age_or_sex_missing"]


class Screening(_Finding):
    """What the rules said of some drugs, and what they could not see."""

    rules_version: str
    drugs_total: int
    """Proposed drugs; two spellings of one name are one drug."""
    drugs_screened: int
    """Proposed drugs whose ingredients are known."""
    unscreened: tuple[str, ...] = ()
    """Proposed drugs whose ingredients are not known, as they were written."""
    current_unscreened: tuple[str, ...] = ()
    """The same of the drugs already ordered."""
    allergies_unrecognised: tuple[str, ...] = ()
    """Recorded allergies that are neither a known drug nor a known class, as they were written."""
    evaluated: tuple[str, ...] = ()
    """Checks that had what they need."""
    not_evaluated: tuple[NotEvaluated, ...] = ()
    alerts: tuple[Alert, ...] = ()
    """The most severe first."""
    suppressed: int = 0
    """Hits of the site's own table that are not shown, or shown lower: a non-interruptive pair, or said already."""
    summary: Text
