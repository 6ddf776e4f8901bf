"""The medication orders of a hook's context: which of them are to be screened, and against which others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.cds.prefetch import PatientFacts
from serving.fhir.clinical import drug_name, is_running
from serving.fhir.read import Resource, by_reference, field, objects, text

MOST_ORDERS = 300
"""Screened in one call."""
MOST_READ = 1000
"""Of one Bundle."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is screened.

    Attributes:
        proposed: names of the drugs.
        current: names of all that is ordered besides; None: current medication was not given.
        unnamed: proposed orders without a drug that can be read or past `MOST_READ`, and selections that lead to none.
    """

    proposed: tuple[str, ...]
    current: tuple[str, ...] | None
    unnamed: int

    @property
    def total(self) -> int:
        """Orders that should be screened."""
        return len(self.proposed) + self.unnamed


@dataclass(frozen=True, slots=True)
class _Order:
    ids: frozenset[str]
    name: str | None
    replaces: str


def read_orders(
    draft_orders: dict[str, Any], selections: Sequence[str] | None, facts: PatientFacts, known: Callable[[str], bool]
) -> Orders:
    """Take the medication orders apart.

    Args:
        draft_orders: the context's Bundle; what is no running MedicationRequest is passed over.
        selections: references to the orders to screen; None: all.
        facts: whose current drugs count, but for those that the draft orders sign again or replace.
        known: tells a drug's name that screening understands.
    """
    found = _running(draft_orders)
    orders = _read(found[:MOST_READ], by_reference(draft_orders), known)
    selected = None if selections is None else frozenset(selections)
    chosen = [one for one in orders if selected is None or one.ids & selected]
    names = [one.name for one in chosen if one.name][:MOST_ORDERS]
    lost = max(_medication_selections(selections or (), orders), len(found) - len(orders))
    beside = [one.name for one in orders if selected is not None and not one.ids & selected and one.name]
    return Orders(tuple(names), _current(beside, orders, facts), len(chosen) - len(names) + lost)


def _running(bundle: dict[str, Any]) -> list[tuple[Resource, Resource]]:
    """Return the entries of medication orders that run, each with its resource."""
    return [
        (entry, resource)
        for entry in objects(bundle.get("entry"))
        if isinstance(resource := entry.get("resource"), dict)
        and resource.get("resourceType") == "MedicationRequest"
        and is_running(resource)
    ]


def _read(
    found: list[tuple[Resource, Resource]], others: dict[str, Resource], known: Callable[[str], bool]
) -> list[_Order]:
    return [
        _Order(_ids(entry, resource), drug_name(resource, others, known), _last(resource.get("priorPrescription")))
        for entry, resource in found
    ]


def _ids(entry: Resource, order: Resource) -> frozenset[str]:
    said = (text(order.get("id")), text(entry.get("fullUrl")))
    return frozenset(name for one in said if one for name in (one, f"MedicationRequest/{one}"))


def _last(reference: Any) -> str:
    return (text(field(reference, "reference")) or "").rpartition("/")[2]


def _medication_selections(selections: Sequence[str], orders: list[_Order]) -> int:
    """Count selected medication orders that are not there; orders of other kinds are not ours."""
    there = {name for one in orders for name in one.ids}
    return sum(one.startswith("MedicationRequest/") and one not in there for one in selections)


def _current(beside: list[str], orders: list[_Order], facts: PatientFacts) -> tuple[str, ...] | None:
    if facts.drugs is None:
        return tuple(beside) or None
    again = {name for one in orders for name in one.ids} | {one.replaces for one in orders if one.replaces}
    given = [name for order_id, name in facts.drugs if name and order_id not in again]
    return tuple(dict.fromkeys([*given, *beside]))
