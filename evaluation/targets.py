"""What a recommender is to reach, and whether the one that is served does; most is known where the best possible is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluation.drafts import SERVED, Kind
from evaluation.evaluate import Evaluation
from evaluation.figures import UNDEFINED, Figures, written
from evaluation.markdown import grid
from evaluation.metrics import BY_NAME, Unit
from evaluation.results import AGAINST_ORACLE
from evaluation.statistics.calibration import Universe

OUTPUT_RATE = 1.0
ORACLE_SHARE = 0.9
ECE = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """One bound, what was found, and its interval: None where there is none, the value itself where it is a count."""

    name: str
    found: float | None
    lo: float | None
    hi: float | None
    bound: float
    at_least: bool = True

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}" if self.bound else "above 0"

    @property
    def verdict(self) -> str:
        """Whether it is met; surely, where the whole interval says the same."""
        if self.found is None:
            return "not measured"
        sign = 1 if self.at_least else -1
        met = sign * (self.found - self.bound) >= 0
        ends = [] if self.lo is None or self.hi is None else [self.lo, self.hi]
        sure = bool(ends) and all((sign * (end - self.bound) >= 0) is met for end in ends)
        return f"{'met' if met else 'missed'}{'' if sure else ', not surely'}"


def targets(evaluation: Evaluation) -> list[Target]:
    """Return every target that can be asked of these rows; none where nobody is served."""
    figures, rows = Figures(evaluation.results), {row["name"]: row["kind"] for row in evaluation.about["rows"]}
    if SERVED not in rows:
        return []
    output, ece = (figures.find(SERVED, name) for name in ("output_rate", "ece"))
    rate = output["value"]
    found = [Target("answers that are a list", rate, rate, rate, OUTPUT_RATE)]
    if Kind.ORACLE in rows.values():
        found += [
            _target(f"{BY_NAME[name].title}, share of the oracle's", line, ORACLE_SHARE)
            for name in AGAINST_ORACLE
            for line in [figures.find(SERVED, f"oracle_share_{name}")]
        ]
    for name, family in evaluation.about["served_less_baselines"].items():
        lines = [line for line in family if rows[line["row"]] == Kind.BASELINE]
        found += [_above(name, lines)] if lines else []
    in_question = evaluation.about["calibration"].get(SERVED, {}).get(str(Universe.CANDIDATES), {}).get("ece")
    return [
        *found,
        _target("ECE over the formulary", ece, ECE, at_least=False),
        Target("ECE over the drugs in question", in_question, None, None, ECE, at_least=False),  # zeros flatter no one
    ]


def to_markdown(found: list[Target]) -> str:
    """Print the targets; "" where there is none."""
    rows = [
        (
            target.name,
            target.wanted,
            written(target.found, Unit.SCORE),
            UNDEFINED if target.lo is None or target.lo == target.hi else f"[{target.lo:.3f}, {target.hi:.3f}]",
            target.verdict,
        )
        for target in found
    ]
    note = (
        f"Of {SERVED}. Not surely: a part of the interval says otherwise. The nearest baseline stands for all of them."
    )
    return f"{grid(('target', 'wanted', 'found', '95 %', 'verdict'), rows)}\n\n{note}" if rows else ""


def _target(name: str, line: dict[str, Any], bound: float, *, at_least: bool = True) -> Target:
    return Target(name, line["value"], line["lo"], line["hi"], bound, at_least)


def _above(metric: str, lines: list[dict[str, Any]]) -> Target:
    """Return the difference to the baseline that comes nearest: above it is above every one of them."""
    nearest = min(lines, key=lambda line: line["point"] if line["lo"] is None else line["lo"])
    name = f"{BY_NAME[metric].title} less the nearest baseline's, {nearest['row']}"
    return Target(name, nearest["point"], nearest["lo"], nearest["hi"], 0.0)
