"""How good the judge is: what it accepts, what it lets pass, whether it reads the patient. Without it no number prints.

Approval means the verdict "appropriate"; an abstention is none. Errors and open units have no opinion: they are
counted beside and enter no rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation.judge.decoys import NEGATIVE, UNAVAILABLE, Kind
from evaluation.judge.intervals import Floats, Ints, Share, clustered, half_width, share
from evaluation.judge.items import Unit
from evaluation.judge.panel import Verdicts
from evaluation.judge.plan import Plan, Swap
from evaluation.judge.protocol import Verdict

LEAST_SENSITIVITY = 0.95
MOST_SWAPS_ACCEPTED = 0.30
MOST_CANARIES_ACCEPTED = 0.05
FEWEST_DECOYS = 73
"""Of each kind the pass rule reads: of fewer, even none accepted would not show a rate below 5 %."""
FEWEST_FOR_HEADLINE = 20

UNCERTIFIED = "UNCERTIFIED JUDGE"
PAPER_PARITY = "PAPER-PARITY: no decoys, not identified"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the decoys say of a judge.

    Attributes:
        s: share of true orders approved; a lower bound, since some orders are themselves inappropriate.
        f: share of wrong drugs approved, by kind.
        swap_gap: mean approval of lists under their own chart minus under another's, with its 95 % interval.
        retest: share of verdicts that changed when asked again.
        abstention: share of abstentions, by why a unit was asked.
        errors: units without an opinion, by why they were asked.
        open: units nobody has answered.
    """

    s: Share
    f: dict[Kind, Share]
    swap_gap: tuple[float, float, float] | None
    retest: Share
    abstention: dict[str, float]
    errors: dict[str, int] = field(default_factory=dict)
    open: int = 0

    @property
    def headline(self) -> tuple[Kind, Share]:
        """The kind that the judge lets pass most, among those with decoys enough to say so; else the swapped drugs."""
        enough = [(kind, found) for kind, found in self.f.items() if found.n >= FEWEST_FOR_HEADLINE]
        return max(enough, key=lambda pair: pair[1].est or 0.0, default=(Kind.CHART_SWAP, self.f[Kind.CHART_SWAP]))

    @property
    def void(self) -> bool:
        """Whether the judge approves of drugs that do not exist."""
        return (self.f[Kind.FICTITIOUS].est or 0.0) > MOST_CANARIES_ACCEPTED

    @property
    def reasons(self) -> list[str]:
        """Why the judge does not pass; empty: it does."""
        rules = (
            (Kind.POSITIVE, self.s, "true orders approved", lambda est: est >= LEAST_SENSITIVITY),
            (
                Kind.CHART_SWAP,
                self.f[Kind.CHART_SWAP],
                "swapped drugs accepted",
                lambda est: est <= MOST_SWAPS_ACCEPTED,
            ),
            (
                Kind.FICTITIOUS,
                self.f[Kind.FICTITIOUS],
                "invented drugs accepted",
                lambda est: est <= MOST_CANARIES_ACCEPTED,
            ),
        )
        return [reason for rule in rules if (reason := _reason(*rule))]

    def described(self) -> dict[str, Any]:
        """Return it as judge-card.json holds it."""
        gap = self.swap_gap
        canary = self.f[Kind.FICTITIOUS]
        return {
            "s": self.s.described(),
            "f": {kind.value: found.described() for kind, found in self.f.items()},
            "f_unavailable": {**UNAVAILABLE, **{kind.value: "none drawn" for kind in NEGATIVE if not self.f[kind].n}},
            "f_headline": self.headline[0].value,
            "canary": {"n": canary.n, "accepted": round((canary.est or 0.0) * canary.n)},
            "swap_gap": None if gap is None else {"est": gap[0], "ci": [gap[1], gap[2]]},
            "retest_flip": {"est": self.retest.est, "n": self.retest.n},
            "abstention": self.abstention,
            "errors": self.errors,
            "open": self.open,
            "certified": not self.reasons and not self.open,
            "reasons": self.reasons,
            "void": self.void,
        }


def _reason(kind: Kind, found: Share, words: str, passes: Callable[[float], bool]) -> str | None:
    if found.est is not None and not passes(found.est):
        return f"{100 * found.est:.0f} % of {found.n} {words}"
    if found.n < FEWEST_DECOYS:
        return f"{found.n} of at least {FEWEST_DECOYS} units of {kind.value} answered"
    return None


def certify(plan: Plan, verdicts: Verdicts, subject: Callable[[int], int]) -> Certificate:
    """Return the certificate of one judge or panel.

    Args:
        plan: what was asked and why.
        verdicts: on every unit of the plan.
        subject: the patient of a stay.
    """
    shares = {kind: _approved(units, verdicts, subject) for kind, units in plan.decoys.items()}
    none = Share(None, 0.0, 1.0, 0, 0)
    kinds = plan.kinds()
    return Certificate(
        shares.get(Kind.POSITIVE, none),
        {kind: shares.get(kind, none) for kind in NEGATIVE},
        swap_gap(plan.swaps, verdicts, subject),
        _flips(plan.retests, verdicts, subject),
        _abstention(kinds, verdicts),
        dict(sorted(Counter(kinds[u] for u, verdict in verdicts.items() if verdict is Verdict.ERROR).items())),
        sum(verdict is None for verdict in verdicts.values()),
    )


def approvals(units: Iterable[Unit], verdicts: Verdicts, subject: Callable[[int], int]) -> tuple[Floats, Ints]:
    """Return 0 or 1 and the patient of every unit with an opinion, each (units,)."""
    judged = [unit for unit in units if verdicts.get(unit) not in (None, Verdict.ERROR)]
    hits = np.array([verdicts[unit] is Verdict.APPROPRIATE for unit in judged], float)
    return hits, np.array([subject(unit.hadm_id) for unit in judged], np.int64)


def _approved(units: Iterable[Unit], verdicts: Verdicts, subject: Callable[[int], int]) -> Share:
    return share(*approvals(units, verdicts, subject))


def swap_gap(
    swaps: Sequence[Swap], verdicts: Verdicts, subject: Callable[[int], int]
) -> tuple[float, float, float] | None:
    """Return mean_v [approval(list_v, chart_v) - approval(list_v, chart_π(v))] with its 95 % interval.

    Near 0 the judge reads the drug and not the patient. None with fewer than two patients.
    """
    gaps, patients = [], []
    for swap in swaps:
        own, other = (approvals(units, verdicts, subject)[0] for units in (swap.own, swap.swapped))
        if len(own) and len(other):
            gaps.append(own.mean() - other.mean())
            patients.append(subject(swap.hadm_id))
    if len(set(patients)) < 2:
        return None
    found = np.array(gaps)
    error, people = clustered((found - found.mean()) / len(found), np.array(patients, np.int64))
    half, est = half_width(error, people - 1), float(found.mean())
    return est, max(est - half, -1.0), min(est + half, 1.0)


def _flips(retests: Sequence[Unit], verdicts: Verdicts, subject: Callable[[int], int]) -> Share:
    pairs = [(again, verdicts.get(Unit(again.hadm_id, again.drug)), verdicts.get(again)) for again in retests]
    both = [(again, one is not other) for again, one, other in pairs if not {None, Verdict.ERROR} & {one, other}]
    flips = np.array([flipped for _, flipped in both], float)
    return share(flips, np.array([subject(again.hadm_id) for again, _ in both], np.int64))


def _abstention(kinds: dict[Unit, str], verdicts: Verdicts) -> dict[str, float]:
    judged, abstained = Counter[str](), Counter[str]()
    for unit, kind in kinds.items():
        verdict = verdicts.get(unit)
        if verdict in (None, Verdict.ERROR):
            continue
        for name in (kind, "overall"):
            judged[name] += 1
            abstained[name] += verdict is Verdict.INSUFFICIENT
    return {name: abstained[name] / judged[name] for name in sorted(judged)}
