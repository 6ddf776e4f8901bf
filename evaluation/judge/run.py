"""`rxdraft judge`, all of it in order: who may be asked, what, at what cost; asking; the figures and their card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import polars as pl

from etl.errors import ConfigError
from etl.outside.ask import Interview, Limits, Tally
from etl.outside.budget import check_budget, estimates, read_prices
from etl.outside.endpoint import Decoding, Endpoint
from etl.outside.firewall import Passage, Provenance, let_pass, read_provenance
from etl.progress import Told
from evaluation.interactions import read_interactions
from evaluation.judge import parity
from evaluation.judge.appropriateness import FOLDER
from evaluation.judge.decoys import Decoys
from evaluation.judge.gold import Label, read_gold
from evaluation.judge.items import Charts, Unit, read_charts, read_drafts, read_split
from evaluation.judge.ledger import Kept, Ledger
from evaluation.judge.plan import DECOY_SHARE, Plan, in_hidden_order, make_plan
from evaluation.judge.protocol import UNIT, read_opinion, read_protocol
from evaluation.judge.questions import Question, find_all

Add = Callable[[str], Told]
QUIET: Add = lambda title: lambda done, total, loss: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do.

    Attributes:
        evaluation: folder of `rxdraft evaluate`, with its drafts.
        cohort: folder of `rxdraft etl` that they are of.
        models: pairs of a model's name and its endpoint's URL; several are a panel.
        rows: only these rows; empty: all.
        ledger: None: EVALUATION/judge/ledger.sqlite.
        decoys: share of decoys among all units, below 1.
        gold: human labels; interactions: pairs of drugs, None: the shipped ones.
        replay: ask nobody; figures come from the ledger.
        max_usd: what the run may cost.
        api: "chat" or "responses".
    """

    evaluation: Path
    cohort: Path
    models: tuple[tuple[str, str], ...]
    rows: tuple[str, ...] = ()
    ledger: Path | None = None
    decoys: float = DECOY_SHARE
    seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    limits: Limits = field(default_factory=Limits)
    timeout_seconds: float = 120
    gold: Path | None = None
    interactions: Path | None = None
    affirmation: Path | None = None
    prices: Path | None = None
    max_usd: float | None = None
    replay: bool = False
    api: str = "chat"

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        return self.ledger or self.evaluation / FOLDER / "ledger.sqlite"


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged, read and checked; nothing has been sent."""

    charts: Charts
    split: str
    provenance: Provenance
    drafts: pl.DataFrame
    gold: dict[Unit, Label]


def read_case(settings: Settings) -> Case:
    """Read an evaluation's drafts and their cohort.

    Raises:
        ContractError: they do not belong together. ConfigError: a row is asked for that is not there.
    """
    split = read_split(settings.evaluation, settings.cohort)
    charts = read_charts(settings.cohort, split)
    drafts = read_drafts(settings.evaluation, charts)
    there = drafts["row"].unique().sort().to_list()
    if unknown := sorted(set(settings.rows) - set(there)):
        raise ConfigError(f"{settings.evaluation} has no row {', '.join(unknown)}; it has {', '.join(there)}")
    if settings.rows:
        drafts = drafts.filter(pl.col("row").is_in(list(settings.rows)))
    gold = read_gold(settings.gold, charts) if settings.gold else {}
    return Case(charts, split, read_provenance(settings.cohort), drafts, gold)


def plan_units(settings: Settings, case: Case) -> Plan:
    """Return the units of a run, decoys among them."""
    known = read_interactions(case.charts.vocabulary, settings.interactions)
    decoys = Decoys(case.charts, settings.seed, known)
    return make_plan(case.drafts, case.charts, decoys, settings.decoys)


def unit_question(unit: Unit, kind: str, case: Case, ledger: Ledger) -> Question:
    """Return the question about one unit; why it is asked goes to the ledger and to nobody else."""
    protocol, chart = read_protocol(UNIT), case.charts.render(unit.hadm_id)
    return Question(
        protocol,
        protocol.ask(chart, unit.drug),
        partial(read_opinion, chart=chart),
        ledger.name_context(chart),
        unit.drug,
        kind,
        unit.repeat,
        case.provenance.value,
    )


Questions = list[Callable[[], Question]]


def unit_questions(units: Sequence[tuple[Unit, str]], case: Case, ledger: Ledger) -> Questions:
    """Return the questions, each made when its turn comes."""
    return [partial(unit_question, unit, kind, case, ledger) for unit, kind in units]


def pass_all(settings: Settings, case: Case) -> list[Passage]:
    """Return the passage to each judge's endpoint; all are checked before the first is asked.

    Raises:
        ConfigError: see `firewall.let_pass`.
    """
    if settings.replay:
        return []
    return [let_pass(case.provenance, url, settings.cohort, settings.affirmation) for _, url in settings.models]


def ask_all(
    settings: Settings, passages: Sequence[Passage], questions: Questions, ledger: Ledger, add: Add
) -> tuple[list[str], list[Tally]]:
    """Put every question to every judge; return the judges' snapshots and what each run did.

    Raises:
        ConfigError: a judge refuses or stops answering, or with `replay` was never asked.
        ContractError: a judge changed while it was asked.
    """
    if settings.replay:
        return [_last_snapshot(ledger, model) for model, _ in settings.models], []
    prices = read_prices(settings.prices) if settings.prices else {}
    if settings.max_usd is not None:
        models = [model for model, _ in settings.models]
        check_budget(estimates(models, prices, questions, ledger, settings.decoding), settings.max_usd)
    limits = replace(settings.limits, max_usd=settings.max_usd)
    snapshots, tallies = [], []
    judges = [
        Endpoint(passage, model, settings.decoding, timeout_seconds=settings.timeout_seconds, api=settings.api)
        for passage, (model, _) in zip(passages, settings.models, strict=True)
    ]
    for judge in judges:
        interview = Interview(judge, settings.decoding, ledger, limits, prices.get(judge.model))
        snapshots.append(asyncio.run(interview.run(questions, add(f"judge {judge.model}"))))
        tallies.append(interview.tally)
        if limits.max_usd is not None:
            limits = replace(limits, max_usd=limits.max_usd - interview.tally.usd)
    return snapshots, tallies


def _last_snapshot(ledger: Ledger, model: str) -> str:
    found = ledger.last_snapshot(model)
    if found is None:
        raise ConfigError(f"the ledger has no verdict of {model}; leave --replay out to ask it")
    return found[0]


def list_questions(case: Case, ledger: Ledger) -> Questions:
    """Return one question for each distinct list, as the reference asks."""
    listed = parity.distinct(parity.lists_of(case.drafts))
    return [partial(parity.list_question, one, case.charts, ledger, case.provenance.value) for one in listed]


def ask_units(
    settings: Settings,
    case: Case,
    units: Sequence[tuple[Unit, str]],
    passages: Sequence[Passage],
    ledger: Ledger,
    add: Add,
) -> tuple[list[str], list[dict[Unit, Kept | None]], list[Tally]]:
    """Ask every judge about every unit; return the snapshots, each judge's answers and what each run did."""
    questions = unit_questions(units, case, ledger)
    snapshots, tallies = ask_all(settings, passages, questions, ledger, add)
    found = [find_all(questions, snapshot, settings.decoding, ledger) for snapshot in snapshots]
    return snapshots, [dict(zip((unit for unit, _ in units), kept, strict=True)) for kept in found], tallies


def order_units(settings: Settings, plan: Plan) -> list[tuple[Unit, str]]:
    """Return a plan's units in the order they are asked."""
    return in_hidden_order(plan.kinds(), settings.seed)
