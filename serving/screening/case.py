"""The drugs and the patient of one screening, gathered so that every check reads them once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from serving.screening.facts import Facts, Lab
from serving.screening.findings import Text
from serving.screening.kidney import egfr
from serving.screening.pregnancy import lactating, pregnant
from serving.screening.profiles import Profile, Profiler
from serving.screening.rules import LabBound, Rule, State


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A drug of a screening, in every spelling in which it was written."""

    spellings: tuple[str, ...]
    profile: Profile
    proposed: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that fired.

    Attributes:
        drugs: at least one of them proposed; in order.
        about: what else the message names; None: nothing.
    """

    rule: Rule
    drugs: tuple[Named, ...]
    about: Text | None = None


class Case:
    """What is screened: a set of proposed and a set of ordered drugs, each name once, and the facts.

    Attributes:
        doses: the drugs by ingredient, without flushes and what stays where it is put.
        pregnant, lactating: None: not known.
    """

    def __init__(self, proposed: Iterable[str], facts: Facts, profiler: Profiler) -> None:
        self.facts = facts
        self.profiler = profiler
        self.proposed = _named(proposed, profiler, proposed=True)
        self.current = _named(facts.current_drugs or (), profiler, proposed=False)
        self.pregnant, self.lactating = pregnant(facts), lactating(facts)
        self.doses: dict[str, list[Named]] = {}
        self._members: dict[str, list[tuple[Named, frozenset[str]]]] = {}
        for drug in (*self.proposed, *self.current):
            for group, ones in drug.profile.groups.items():
                self._members.setdefault(group, []).append((drug, ones))
            for one in drug.profile.ingredients if drug.profile.dose else ():
                self.doses.setdefault(one, []).append(drug)

    def members(self, group: str) -> list[tuple[Named, frozenset[str]]]:
        """Return the drugs of a group, each with what puts it there."""
        return self._members.get(group, [])

    def proposed_members(self, groups: Iterable[str]) -> tuple[Named, ...]:
        """Return the proposed drugs of any of the groups."""
        found = (drug for group in groups for drug, _ in self.members(group) if drug.proposed)
        return tuple(dict.fromkeys(found))

    def lab(self, bound: LabBound) -> Lab | str:
        """Return the value that a rule compares, or why there is none."""
        if bound.lab == "egfr":
            return egfr(self.facts, bound.max_hours)
        value = self.facts.potassium_mmol_l
        if value is None:
            return "input_missing"
        return value if value.hours_ago <= bound.max_hours else "stale"

    def state(self, state: State) -> bool | None:
        """Return whether the patient is in it; None: not known."""
        return self.pregnant if state.state == "pregnant" else self.lactating


def paired(drugs: Sequence[tuple[Named, frozenset[str]]], others: Sequence[tuple[Named, frozenset[str]]]) -> set[Named]:
    """Return who takes part in a pair of two different drugs of which one is proposed at least."""
    return {
        drug
        for one, ones in drugs
        for other, its in others
        if (one.proposed or other.proposed) and one is not other and ones.isdisjoint(its)
        for drug in (one, other)
    }


def _named(names: Iterable[str], profiler: Profiler, *, proposed: bool) -> tuple[Named, ...]:
    """Return each drug once, in the order of their names: how a list is sorted changes nothing."""
    spellings: dict[str, list[str]] = {}
    for written in sorted(set(names)):
        spellings.setdefault(profiler(written).name, []).append(written)
    return tuple(Named(tuple(spellings[name]), profiler(spellings[name][0]), proposed) for name in sorted(spellings))


def in_order(drugs: Iterable[Named]) -> Iterator[Named]:
    """Yield proposed drugs before ordered ones, by name."""
    yield from sorted(drugs, key=lambda drug: (not drug.proposed, drug.profile.name))
