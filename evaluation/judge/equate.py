"""One judge against another, on the units whose answer is known: decoys, and what humans labelled.

When a model is withdrawn its successor is asked these units. The old verdicts come from the ledger. Figures of the
two never stand in one column: this says by how much the scale moved, not how to convert it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from etl import artefacts
from etl.errors import ConfigError
from evaluation.judge.appropriateness import FOLDER
from evaluation.judge.certificate import certify
from evaluation.judge.intervals import clustered, half_width
from evaluation.judge.items import Unit
from evaluation.judge.ledger import open_ledger
from evaluation.judge.panel import Verdicts
from evaluation.judge.protocol import Verdict
from evaluation.judge.run import QUIET, Add, Case, Settings, ask_units, order_units, pass_all, plan_units, read_case

EQUATING = "equating.json"


def equate(settings: Settings, old: str, add: Add = QUIET) -> dict[str, Any]:
    """Ask the one judge of `settings` what `old` was asked, and write how they differ.

    Args:
        settings: of the new judge.
        old: the withdrawn judge, as `--model` named it.
        add: makes progress bars.

    Returns:
        The content of EVALUATION/judge/equating.json.

    Raises:
        ConfigError: `old` is not in the ledger, or there are several new judges; and see `ask_units`.
    """
    if len(settings.models) != 1:
        raise ConfigError("one judge is equated with one other; give one --model")
    case = read_case(settings)
    passages = pass_all(settings, case)
    plan = plan_units(settings, case)
    known = plan.known | case.gold.keys()
    overlap = [(unit, kind) for unit, kind in order_units(settings, plan) if unit in known]
    with open_ledger(settings.ledger_path) as ledger:
        before = replace(settings, models=((old, ""),), replay=True)
        [was], [old_kept], _ = ask_units(before, case, overlap, [], ledger, add)
        [now], [new_kept], _ = ask_units(settings, case, overlap, passages, ledger, add)
    verdicts = [{unit: kept.verdict if kept else None for unit, kept in one.items()} for one in (old_kept, new_kept)]
    found = {
        "old": {"requested": old, "returned": was, **_scale(plan, verdicts[0], case)},
        "new": {"requested": settings.models[0][0], "returned": now, **_scale(plan, verdicts[1], case)},
        **_compare([unit for unit, _ in overlap], verdicts[0], verdicts[1], case),
    }
    with artefacts.whole_or_absent(settings.evaluation / FOLDER / EQUATING) as new:
        artefacts.write_json(new, found)
    return found


def _scale(plan: Any, verdicts: Verdicts, case: Case) -> dict[str, Any]:
    """Return a judge's s and f by kind."""
    certificate = certify(plan, verdicts, case.charts.subject)
    f = {kind.value: share.described() for kind, share in certificate.f.items() if share.n}
    return {"s": certificate.s.described(), "f": f, "human": _against_humans(verdicts, case)}


def _against_humans(verdicts: Verdicts, case: Case) -> dict[str, float | int] | None:
    """Return a judge's approvals of what humans approved, and of what they did not."""
    judged = [(verdicts.get(unit), label.appropriate) for unit, label in case.gold.items()]
    pairs = [(v is Verdict.APPROPRIATE, y) for v, y in judged if v not in (None, Verdict.ERROR)]
    yes, no = ([hit for hit, y in pairs if y == wanted] for wanted in (1.0, 0.0))
    if not yes or not no:
        return None
    return {"n": len(pairs), "s": sum(yes) / len(yes), "f": sum(no) / len(no)}


def _compare(units: Sequence[Unit], old: Verdicts, new: Verdicts, case: Case) -> dict[str, Any]:
    """Return agreement, Cohen's κ, and the drift: new approvals minus old ones, with its interval by patient."""
    silent = {None, Verdict.ERROR}
    both = [unit for unit in units if old.get(unit) not in silent and new.get(unit) not in silent]
    if len(both) < 2:
        return {"n": len(both), "agreement": None, "kappa": None, "drift": None}
    a, b = ([verdicts[unit] for unit in both] for verdicts in (old, new))
    moved = np.array(
        [(y is Verdict.APPROPRIATE) - (x is Verdict.APPROPRIATE) for x, y in zip(a, b, strict=True)], float
    )
    patients = np.array([case.charts.subject(unit.hadm_id) for unit in both], np.int64)
    error, people = clustered((moved - moved.mean()) / len(moved), patients)
    half, est = half_width(error, people - 1), float(moved.mean())
    agreed = float(np.mean([x is y for x, y in zip(a, b, strict=True)]))
    drift = {"est": est, "ci": [max(est - half, -1.0), min(est + half, 1.0)]}
    return {"n": len(both), "agreement": agreed, "kappa": kappa(a, b), "drift": drift}


def kappa(a: Sequence[Any], b: Sequence[Any]) -> float | None:
    """Return Cohen's κ = (po - pe) / (1 - pe); None where both gave one and the same verdict throughout.

    >>> round(kappa("yyyynnnn", "yyynnnny"), 2)
    0.5

    Source: Cohen, Educ Psychol Meas 1960;20:37.
    """
    po = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    pe = sum(list(a).count(word) * list(b).count(word) for word in set(a)) / len(a) ** 2
    return None if pe == 1 else (po - pe) / (1 - pe)


def to_text(found: dict[str, Any]) -> str:
    """Return the equating in words."""
    lines = [f"{found['n']} units judged by both"]
    for name in ("old", "new"):
        judge = found[name]
        rates = {"s": judge["s"], **{f"f {kind}": f for kind, f in judge["f"].items()}}
        told = ", ".join(f"{rate} {_rate(value)}" for rate, value in rates.items())
        lines.append(f"{name} {judge['returned']}: {told}")
    if found["drift"]:
        lo, hi = found["drift"]["ci"]
        kappa_ = "undefined" if found["kappa"] is None else f"{found['kappa']:.2f}"
        lines.append(f"agreement {found['agreement']:.2f}, kappa {kappa_}")
        lines.append(f"drift {100 * found['drift']['est']:+.1f} points of approval [{100 * lo:+.1f}, {100 * hi:+.1f}]")
    return "\n".join([*lines, "figures of the two judges do not belong in one column"])


def _rate(value: dict[str, Any]) -> str:
    if value["est"] is None:
        return "unknown"
    return f"{value['est']:.2f} [{value['ci'][0]:.2f}, {value['ci'][1]:.2f}] of {value['n']}"
