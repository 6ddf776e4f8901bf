"""Which checks had what they need, and which had not."""

from __future__ import annotations

from collections.abc import Iterator

from serving.screening.case import Case
from serving.screening.findings import NotEvaluated
from serving.screening.knowledge import Knowledge
from serving.screening.rules import AgeFrom, AllergyTo, LabBound, Rule, State


def not_evaluated(case: Case, knowledge: Knowledge, allergies_unrecognised: bool) -> tuple[NotEvaluated, ...]:
    """Return the checks that could say nothing, or not all, each once with its reason."""
    reasons = {rule.check: reason for rule in knowledge.rules if (reason := _missing(rule, case))}
    if allergies_unrecognised:
        reasons["allergy"] = "not_recognised"
    if case.facts.current_drugs is None:
        reasons["current-drugs"] = "input_missing"
    return tuple(NotEvaluated.model_validate({"check": check, "reason": reason}) for check, reason in reasons.items())


def _missing(rule: Rule, case: Case) -> str | None:
    """Return why a rule cannot be judged; None: it can."""
    match rule.when:
        case LabBound() as when:
            lab = case.lab(when)
            return lab if isinstance(lab, str) else None
        case AllergyTo():
            missing = case.facts.allergies is None
        case State() as when:
            missing = case.state(when) is None
        case AgeFrom():
            missing = case.facts.age is None
        case _:
            missing = False
    return "input_missing" if missing else None


def evaluated(knowledge: Knowledge, missing: tuple[NotEvaluated, ...], *, site: bool) -> Iterator[str]:
    """Yield the checks that said all that they can."""
    checks = dict.fromkeys(rule.check for rule in knowledge.rules)
    left = {one.check for one in missing if one.reason != "not_recognised"}
    for check in (*checks, "current-drugs", *(["site"] if site else [])):
        if check not in left:
            yield check
