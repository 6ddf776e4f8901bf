"""All units of a run: drafts, decoys, whole lists under another chart, repeats; in an order that hides the kinds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from etl.artefacts import sha256
from evaluation.judge.decoys import SHARES, Decoys, Kind
from evaluation.judge.items import Charts, Unit

DECOY_SHARE = 0.15
RETEST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Swap:
    """One visit's list, asked under its own chart and under another patient's."""

    hadm_id: int
    other_hadm_id: int
    drugs: tuple[str, ...]

    @property
    def own(self) -> list[Unit]:
        """The list where it belongs."""
        return [Unit(self.hadm_id, drug) for drug in self.drugs]

    @property
    def swapped(self) -> list[Unit]:
        """The list where it does not."""
        return [Unit(self.other_hadm_id, drug) for drug in self.drugs]


@dataclass(slots=True)
class Plan:
    """What is asked.

    Attributes:
        drafts: every drafted drug of every row, as `read_drafts` returns it.
        decoys: by kind; a kind the data cannot make is empty.
        swaps: whole lists under another chart.
        retests: drafted units, asked a second time.
    """

    drafts: pl.DataFrame
    decoys: dict[Kind, list[Unit]] = field(default_factory=dict)
    swaps: list[Swap] = field(default_factory=list)
    retests: list[Unit] = field(default_factory=list)

    @property
    def drafted(self) -> list[Unit]:
        """The distinct units of all rows."""
        pairs = self.drafts.drop_nulls("label").select("hadm_id", "label").unique().sort("hadm_id", "label")
        return [Unit(hadm_id, label) for hadm_id, label in pairs.iter_rows()]

    @property
    def known(self) -> set[Unit]:
        """The units whose right answer is known or expected: all but the drafts that are no decoy by chance."""
        return {unit for reason, units in self._reasons() if reason != "draft" for unit in units}

    def kinds(self) -> dict[Unit, str]:
        """Return every unit with why it is asked; one asked for several reasons has the first."""
        found: dict[Unit, str] = {}
        for reason, units in self._reasons():
            for unit in units:
                found.setdefault(unit, reason)
        return found

    def _reasons(self) -> list[tuple[str, list[Unit]]]:
        decoys = [(kind.value, units) for kind, units in self.decoys.items()]
        swapped = [unit for swap in self.swaps for unit in swap.swapped]
        return [("draft", self.drafted), *decoys, ("swapped_list", swapped), ("retest", self.retests)]


def make_plan(drafts: pl.DataFrame, charts: Charts, decoys: Decoys, share: float = DECOY_SHARE) -> Plan:
    """Return the drafts of an evaluation with decoys mixed in.

    Args:
        drafts: as `read_drafts` returns them.
        charts: of their split.
        decoys: who makes decoys.
        share: of decoys among all units, from 0 to below 1; a kind the data cannot fill stays short.
    """
    plan = Plan(drafts)
    drafted = plan.drafted
    wanted = share / (1 - share) * len(drafted)
    plan.decoys = {kind: decoys.draw(kind, math.ceil(part * wanted)) for kind, part in SHARES.items()}
    if share:
        order = _by_hash(decoys.seed)
        plan.swaps = _swap_lists(drafts, charts, math.ceil((1 - sum(SHARES.values())) * wanted), order)
        again = sorted(drafted, key=order)[: math.ceil(RETEST_SHARE * len(drafted))]
        plan.retests = [Unit(unit.hadm_id, unit.drug, repeat=1) for unit in again]
    return plan


def in_hidden_order(kinds: dict[Unit, str], seed: int) -> list[tuple[Unit, str]]:
    """Return the units as they are asked: shuffled, so that a kind shows in no position."""
    order = _by_hash(seed)
    return sorted(kinds.items(), key=lambda pair: order(pair[0]))


def _by_hash(seed: int) -> Callable[[object], str]:
    return lambda thing: sha256(f"{seed}|{thing}".encode())


def _swap_lists(drafts: pl.DataFrame, charts: Charts, budget: int, order: Callable[[object], str]) -> list[Swap]:
    """Pair the visits of the first row with those of other patients until the units are spent."""
    first = drafts.filter(pl.col("row") == drafts["row"].min()).drop_nulls("label")
    lists = {
        hadm_id: tuple(dict.fromkeys(labels))
        for hadm_id, labels in first.group_by("hadm_id", maintain_order=True).agg("label").iter_rows()
    }
    visits = sorted(lists, key=order)
    swaps, spent = [], 0
    for place, visit in enumerate(visits):
        rest = visits[place + 1 :] + visits[:place]
        other = next((other for other in rest if charts.subject(other) != charts.subject(visit)), None)
        if spent >= budget or other is None:
            break
        swaps.append(Swap(visit, other, lists[visit]))
        spent += len(lists[visit])
    return swaps
