"""`rxdraft augment`, all of it in order: whose data, who may be asked, at what cost; growth; the corpus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from etl.augment import corpus
from etl.augment.growth import Growth
from etl.augment.ledger import Ledger, open_ledger
from etl.augment.prompt import Request
from etl.augment.rehearsal import estimate
from etl.augment.seeds import Seeds
from etl.augment.settings import Settings
from etl.errors import ConfigError
from etl.outside.ask import Interview, Tally
from etl.outside.budget import check_budget
from etl.outside.endpoint import Endpoint, Reply
from etl.outside.firewall import Passage, Provenance, let_pass
from etl.progress import Told

QUIET: Told = lambda done, total, loss: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Grown:
    """What a run did.

    Attributes:
        corpus: the content of cohort.json.
        tally: None: the corpus stood there already.
    """

    corpus: dict[str, Any]
    tally: Tally | None


def augment(settings: Settings, told: Told = QUIET) -> Grown:
    """Grow seeds into a corpus, or find it complete and leave it.

    Args:
        settings: of the run.
        told: (tasks kept, wanted, None) after each answer.

    Raises:
        ConfigError: data may not go there, the cost may be too high, the server refuses or stops answering, or no task
            is left. SourceDataError: the seeds are none. ContractError: something else stands at `out`, or another
            snapshot began to answer. What was answered by then is kept.
    """
    seeds = settings.read_seeds()
    asked = settings.asked(seeds)
    if stands := corpus.standing(settings.out, asked, overwrite=settings.overwrite):
        return Grown(stands, None)
    passage = let_pass(seeds.provenance, settings.endpoint, seeds.data, settings.affirmation)
    with open_ledger(settings.ledger_path) as ledger:
        if settings.max_usd is not None:
            check_budget([estimate(settings, settings.growth(seeds), ledger)], settings.max_usd)
        growth, interview = settings.growth(seeds), _interview(settings, passage, ledger)
        asyncio.run(_grow(growth, interview, ledger, settings, told))
    if not growth.tasks:
        fates = "; ".join(f"{fate}: {count}" for fate, count in (growth.answers + growth.fates).items())
        raise ConfigError(f"no task was kept ({fates or 'nothing was answered'}); try another model or other seeds")
    made = corpus.write(
        *(settings.out, growth.tasks, seeds.system, {"asked": asked, **_origin(growth, interview, passage, seeds)}),
        tokenizer=settings.tokenizer,
        max_length=settings.plan.max_length,
        open_data=seeds.provenance is not Provenance.CREDENTIALED,
    )
    return Grown(made, interview.tally)


def _interview(settings: Settings, passage: Passage, ledger: Ledger) -> Interview:
    endpoint = Endpoint(
        passage, settings.model, settings.decoding, timeout_seconds=settings.timeout_seconds, api=settings.api
    )
    limits = replace(settings.limits, max_usd=settings.max_usd)
    return Interview(endpoint, settings.decoding, ledger, limits, settings.price)


async def _grow(growth: Growth, interview: Interview, ledger: Ledger, settings: Settings, told: Told) -> None:
    """Ask round after round until there is enough, nothing new comes, or the budget is spent."""

    def tell(done: int, total: int, note: object) -> None:
        told(len(growth.tasks), settings.plan.wanted, None)

    def find(request: Request) -> Reply | None:
        return ledger.find(request.key(interview.snapshot, settings.decoding))

    def give_up(request: Request) -> Reply:
        """Keep that there is no answer: later requests are drawn knowing so."""
        key = request.key(interview.snapshot, settings.decoding)
        return ledger.give_up(key, request.asked(settings.model), interview.snapshot)

    async with interview:
        while requests := growth.next_round():
            await interview.put([_ready(request) for request in requests], tell)
            if interview.tally.open["max_cost"]:
                growth.take([reply for request in requests if (reply := find(request))])
                return
            growth.take([find(request) or give_up(request) for request in requests])
    told(len(growth.tasks), settings.plan.wanted, None)


def _ready(request: Request) -> Callable[[], Request]:
    return lambda: request


def _origin(growth: Growth, interview: Interview, passage: Passage, seeds: Seeds) -> dict[str, Any]:
    """Return what cohort.json says of who wrote the tasks, from what, and how it went."""
    spent = interview.tally.open["max_cost"]
    return {
        "affirmation_sha256": passage.affirmation_sha256,
        "answers": dict(growth.answers),
        "ended": "max_cost" if spent else "nothing new" if growth.dry else corpus.COMPLETE,
        "model_returned": interview.snapshot,
        "provenance": seeds.provenance.value,
        "seeds": {"kept": len(seeds.tasks), "left out": seeds.left_out},
        "tasks": {"written": growth.fates.total(), **growth.fates},
    }
