"""`rxdraft augment --dry-run`: what a run would send, where and at what cost. It sends nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from etl.augment.growth import Growth
from etl.augment.ledger import Ledger, open_ledger
from etl.augment.prompt import Request
from etl.augment.seeds import Seeds
from etl.augment.settings import Settings
from etl.errors import ConfigError
from etl.outside.ask import count_tokens
from etl.outside.budget import Estimate
from etl.outside.firewall import affirmation_form, let_pass


def rehearse(settings: Settings) -> str:
    """Say what a run would send, where and at what cost. Sends nothing, writes nothing."""
    seeds = settings.read_seeds()
    growth = settings.growth(seeds)
    there = settings.ledger_path.is_file()
    with open_ledger(settings.ledger_path) if there else nullcontext() as ledger:
        expected = estimate(settings, growth, ledger)
    return "\n".join(
        [
            f"provenance: {seeds.provenance}; {len(seeds.tasks):,} seeds, {seeds.left_out} left out",
            f"{len(growth.tasks):,} of {settings.plan.wanted:,} tasks come from answers in the ledger",
            f"{expected}; if every task is kept: for those left out more is asked",
            *_passage(settings, seeds),
            "nothing was sent",
        ]
    )


def estimate(settings: Settings, growth: Growth, ledger: Ledger | None) -> Estimate:
    """Grow as far as the ledger's answers go; say what the rest takes, if every task is kept."""
    last = ledger.last_snapshot(settings.model) if ledger else None
    stored, open_, later = 0, list[Request](), 0
    while not open_ and (requests := growth.next_round()):
        keys = [request.key(last[0] if last else "", settings.decoding) for request in requests]
        found = [ledger.find(key) if ledger else None for key in keys]
        replies = [reply for reply in found if reply]
        stored += len(replies)
        open_ = [request for request, reply in zip(requests, found, strict=True) if not reply]
        later = growth.missing - len(requests)
        if not open_:
            growth.take(replies)
    return _priced(settings, stored, open_, len(open_) + later if open_ else 0)


def _priced(settings: Settings, stored: int, open_: Sequence[Request], to_ask: int) -> Estimate:
    """Price the open requests of a round, and those of later rounds as the mean of them."""
    each = [count_tokens(request.messages) for request in open_] or [0]
    tokens_in = round(to_ask * sum(each) / len(each))
    most = to_ask * settings.decoding.max_tokens
    expected = min(sum(request.expected_tokens for request in open_[:1]) * to_ask, most)
    return Estimate(settings.model, stored + to_ask, stored, tokens_in, expected, most, settings.price, "requests")


def _passage(settings: Settings, seeds: Seeds) -> list[str]:
    try:
        passage = let_pass(seeds.provenance, settings.endpoint, seeds.data, settings.affirmation)
    except ConfigError as refusal:
        form = affirmation_form(settings.endpoint, seeds.data).splitlines()
        return [f"refused: {refusal}", "an affirmation to fill in and sign:", *(f"  {line}" for line in form)]
    return [f"endpoint {settings.endpoint}: {'this machine' if passage.local else 'another machine, allowed'}"]
