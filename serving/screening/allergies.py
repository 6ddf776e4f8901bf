"""The check of recorded allergies: the same ingredient, a declared class, or a cross-reaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.drugs import normalise_drug
from serving.screening.case import Case, Hit, in_order
from serving.screening.findings import Text
from serving.screening.knowledge import Knowledge
from serving.screening.profiles import Profile
from serving.screening.rules import AllergyTo, Rule


@dataclass(frozen=True, slots=True)
class Declared:
    """A recorded allergy, as it was written and as the rules know it."""

    written: str
    name: str
    profile: Profile

    def known_to(self, when: AllergyTo) -> bool:
        """Return whether a rule knows the class declared, or the drug as one of its members."""
        return self.name in when.names or (when.spreads and when.group in self.profile.groups)


def declared(case: Case, knowledge: Knowledge) -> list[Declared]:
    """Return the recorded allergies, each once, without what only says that there are none."""
    found: dict[str, Declared] = {}
    for written in sorted(allergy.substance for allergy in case.facts.allergies or ()):
        name = normalise_drug(written)
        if name and name not in knowledge.none_recorded:
            found.setdefault(name, Declared(written, name, case.profiler(written)))
    return list(found.values())


def unrecognised(allergies: list[Declared], knowledge: Knowledge) -> tuple[str, ...]:
    """Return the allergies that no rule can judge, as they were written."""
    names = {name for rule in knowledge.rules if isinstance(rule.when, AllergyTo) for name in rule.when.names}
    return tuple(one.written for one in allergies if one.name not in names and not one.profile.ingredients)


def allergy_hits(rule: Rule, when: AllergyTo, case: Case, allergies: list[Declared]) -> Iterator[Hit]:
    """Yield one hit for each recorded allergy that concerns proposed drugs.

    A drug that holds the declared ingredient itself is the first rule's alone; the classes speak of the others.
    """
    for allergy in allergies:
        own = allergy.profile.ingredients
        if when.group is None:
            drugs = tuple(drug for drug in case.proposed if own & drug.profile.ingredients)
        else:
            known = case.proposed_members([when.group]) if allergy.known_to(when) else ()
            drugs = tuple(drug for drug in known if not own & drug.profile.ingredients)
        if drugs:
            yield Hit(
                rule, tuple(in_order(drugs)), Text(en=f"allergy: {allergy.written}", ko=f"알레르기: {allergy.written}")
            )
