"""What a rule is: whom it speaks of and when, what it says, where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.screening.facts import Facts
from serving.screening.findings import IssueCode, Text, Tier


class _Known(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(_Known):
    """A set of drugs: any of the ingredients, or an ATC code that begins with one of `atc`."""

    ingredients: frozenset[str] = frozenset()
    """Spelt as rxdraft's drug vocabulary does."""
    atc: tuple[str, ...] = ()
    local: bool = False
    """Whether a flush, and a form that stays in the eye, nose, skin or gut, counts too."""


class Pair(_Known):
    """Fires for a drug of one side with another drug of the other, in any order."""

    kind: Literal["pair"] = "pair"
    sides: tuple[str, str]
    """Names of groups."""


class AllergyTo(_Known):
    """Fires for members once the class is declared, or one of its members if it spreads."""

    kind: Literal["allergy"] = "allergy"
    names: frozenset[str] = frozenset()
    """What clinicians call the class, in lower case; empty: see `spreads`."""
    group: str | None
    """None: the declared ingredient itself."""
    spreads: bool = False


class Duplicate(_Known):
    """Fires for two drugs that are one, by name, by ingredient, or by class."""

    kind: Literal["duplicate"] = "duplicate"
    by: Literal["name", "ingredient", "class"]


class LabBound(_Known):
    """Fires for members while the last value lies beyond the bound."""

    kind: Literal["lab"] = "lab"
    lab: Literal["egfr", "potassium"]
    below: float | None = None
    above: float | None = None
    max_hours: float
    """An older value is stale."""
    groups: tuple[str, ...]


class State(_Known):
    """Fires for members while the patient is pregnant, or breastfeeding."""

    kind: Literal["state"] = "state"
    state: Literal["pregnant", "lactating"]
    group: str


class AgeFrom(_Known):
    """Fires for members from an age on, in years."""

    kind: Literal["age"] = "age"
    at_least: int
    group: str


class SiteRow(_Known):
    """Fires for the two ingredients of a row of the site's own table."""

    kind: Literal["site"] = "site"
    ingredients: tuple[str, str]


When = Annotated[Pair | AllergyTo | Duplicate | LabBound | State | AgeFrom | SiteRow, Field(discriminator="kind")]


class Example(_Known):
    """Drugs and facts for which a rule must fire, or must not; the tests walk them."""

    proposed: tuple[str, ...]
    facts: Facts = Facts()


class Rule(_Known):
    """A rule as it is shown at /about/rules/{rule_id}."""

    rule_id: str
    version: str
    check: str
    tier: Tier
    code: IssueCode
    title: Text
    message: Text
    citation: str
    url: str | None = None
    owner: str
    reviewed: str
    """When and by whom; no pharmacist has reviewed ours."""
    note: str = ""
    """Limits and corrections, in English."""
    when: When
    fires: Example | None = None
    silent: Example | None = None
    """None of both: a row of the site's table, which rxdraft does not test."""
