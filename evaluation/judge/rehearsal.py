"""`rxdraft judge --dry-run`: what a run would send, where and at what cost. It sends nothing and writes nothing."""

from __future__ import annotations

from contextlib import nullcontext

from etl.errors import ConfigError
from etl.outside.budget import estimates, read_prices
from etl.outside.firewall import affirmation_form, let_pass
from evaluation.judge.ledger import Ledger, open_ledger
from evaluation.judge.run import Case, Settings, list_questions, plan_units, read_case, unit_questions


class _NoLedger:
    """Stands in where there is none yet: a rehearsal leaves nothing behind."""

    def name_context(self, chart: str) -> str:
        return ""


def rehearse(settings: Settings, *, paper_parity: bool = False) -> str:
    """Say what a run would send, where and at what cost. Sends nothing, writes nothing."""
    case = read_case(settings)
    there = settings.ledger_path.is_file()
    models = [model for model, _ in settings.models]
    prices = read_prices(settings.prices) if settings.prices else {}
    with open_ledger(settings.ledger_path) if there else nullcontext() as ledger:
        named: Ledger = ledger or _NoLedger()  # type: ignore[assignment]
        if paper_parity:
            questions, kinds = list_questions(case, named), "lists, no decoys"
        else:
            units = plan_units(settings, case).kinds()
            questions = unit_questions(list(units.items()), case, named)
            kinds = (
                f"{sum(kind == 'draft' for kind in units.values()):,} of them drafted, the others decoys and repeats"
            )
        lines = [f"provenance: {case.provenance}; split {case.split}", f"units: {len(questions):,}, {kinds}"]
        lines += [str(estimate) for estimate in estimates(models, prices, questions, ledger, settings.decoding)]
    for url in dict.fromkeys(url for _, url in settings.models):
        lines += _rehearse_passage(settings, case, url)
    return "\n".join([*lines, "nothing was sent"])


def _rehearse_passage(settings: Settings, case: Case, url: str) -> list[str]:
    try:
        passage = let_pass(case.provenance, url, settings.cohort, settings.affirmation)
    except ConfigError as refusal:
        form = affirmation_form(url, settings.cohort).splitlines()
        return [f"refused: {refusal}", "an affirmation to fill in and sign:", *(f"  {line}" for line in form)]
    return [f"endpoint {url}: {'this machine' if passage.local else 'another machine, allowed'}"]
