"""The checks: what a rule says of a case, one function for each kind of rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from serving.screening.allergies import allergy_hits, declared
from serving.screening.case import Case, Hit, Named, in_order, paired
from serving.screening.facts import Lab
from serving.screening.findings import Text
from serving.screening.knowledge import Knowledge
from serving.screening.rules import AgeFrom, AllergyTo, Duplicate, LabBound, Pair, Rule, State


def all_hits(case: Case, knowledge: Knowledge) -> Iterator[Hit]:
    """Yield what the rules say of a case; a rule whose facts are missing says nothing."""
    allergies = declared(case, knowledge)
    for rule in knowledge.rules:
        match rule.when:
            case AllergyTo() as when:
                yield from allergy_hits(rule, when, case, allergies)
            case Duplicate(by=by):
                yield from _DUPLICATES[by](rule, case, knowledge)
            case Pair() as when:
                yield from _hit(rule, paired(*map(case.members, when.sides)))
            case LabBound() as when:
                yield from _lab_hits(rule, when, case)
            case State() as when if case.state(when):
                yield from _hit(rule, case.proposed_members([when.group]))
            case AgeFrom() as when if case.facts.age is not None and case.facts.age >= when.at_least:
                yield from _hit(rule, case.proposed_members([when.group]))


def _hit(rule: Rule, drugs: Collection[Named], about: Text | None = None) -> Iterator[Hit]:
    """Yield one hit for all the drugs; none for no drug."""
    if drugs:
        yield Hit(rule, tuple(in_order(drugs)), about)


def _lab_hits(rule: Rule, when: LabBound, case: Case) -> Iterator[Hit]:
    lab = case.lab(when)
    if not isinstance(lab, Lab):
        return
    if (when.below is not None and lab.value < when.below) or (when.above is not None and lab.value > when.above):
        value = {"egfr": f"eGFR {lab.value:.0f}", "potassium": f"K {lab.value:.1f} mmol/L"}[when.lab]
        about = Text(en=f"{value}, {lab.hours_ago:.0f} h ago", ko=f"{value}, {lab.hours_ago:.0f}시간 전")
        yield from _hit(rule, case.proposed_members(when.groups), about)


def _same_name(rule: Rule, case: Case, knowledge: Knowledge) -> Iterator[Hit]:
    ordered = {drug.profile.name: drug for drug in case.current}
    for drug in case.proposed:
        if drug.profile.name in ordered and not drug.profile.flush:
            yield from _hit(rule, (drug, ordered[drug.profile.name]))


def _same_ingredient(rule: Rule, case: Case, knowledge: Knowledge) -> Iterator[Hit]:
    """Yield the drugs of different names that share ingredients, unless these may be ordered twice."""
    shared: dict[frozenset[Named], list[str]] = defaultdict(list)
    for ingredient, drugs in sorted(case.doses.items()):
        if len(drugs) > 1:
            counted = [drug for drug in drugs if not _may_repeat(drug, ingredient, knowledge)]
            names = [(drug, frozenset([drug.profile.name])) for drug in counted]
            shared[frozenset(paired(names, names))].append(ingredient)
    for group, ingredients in shared.items():
        yield from _hit(rule, group, Text(en=", ".join(ingredients), ko=", ".join(ingredients)))


def _same_class(rule: Rule, case: Case, knowledge: Knowledge) -> Iterator[Hit]:
    """Yield each class that holds drugs of different ingredients."""
    for code, title in knowledge.classes.items():
        drugs = case.members(f"duplicate {code}")
        yield from _hit(rule, paired(drugs, drugs), title)


def _may_repeat(drug: Named, ingredient: str, knowledge: Knowledge) -> bool:
    return any(ingredient in drug.profile.groups.get(group, ()) for group in knowledge.may_repeat)


_DUPLICATES = {"name": _same_name, "ingredient": _same_ingredient, "class": _same_class}
