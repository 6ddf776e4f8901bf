"""Judging an evaluation, from its drafts to the files beside them.

    EVALUATION/judge/verdicts.parquet       row, subject_id, hadm_id, drug, verdict, approval, weight
    EVALUATION/judge/units.parquet          every unit with its kind and each judge's verdict
    EVALUATION/judge/judge-card.json        how good the judge is
    EVALUATION/judge/appropriateness.json   each row's figure; names the card, written last

No file but the ledger holds text of a chart. The same answers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.artefacts import sha256_file
from etl.errors import ConfigError
from etl.outside.ask import Tally
from evaluation.judge import parity
from evaluation.judge.appropriateness import (
    CARD,
    FOLDER,
    PARITY_FOLDER,
    ROWS,
    Appropriateness,
    described,
    judge_row,
    row_table,
)
from evaluation.judge.card import about, evidence, human, overall
from evaluation.judge.certificate import PAPER_PARITY, certify
from evaluation.judge.items import Unit
from evaluation.judge.ledger import Kept, open_ledger
from evaluation.judge.panel import Verdicts, combine
from evaluation.judge.protocol import LIST, UNIT, Verdict, read_protocol
from evaluation.judge.questions import find_all
from evaluation.judge.run import (
    QUIET,
    Add,
    Case,
    Settings,
    ask_all,
    ask_units,
    list_questions,
    order_units,
    pass_all,
    plan_units,
    read_case,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run found.

    Attributes:
        rows: by name.
        card: judge-card.json.
        tallies: what was asked of each judge; empty for a replay.
        folder: where it is written.
    """

    rows: dict[str, Appropriateness]
    card: dict[str, Any]
    tallies: list[Tally]
    folder: Path


def judge_units(settings: Settings, add: Add = QUIET) -> Judged:
    """Judge every drafted drug among decoys, and write the figures with their card.

    Raises:
        ConfigError, ContractError: see `read_case`, `pass_all`, `ask_all`; what was answered by then is kept.
    """
    case = read_case(settings)
    passages = pass_all(settings, case)
    plan = plan_units(settings, case)
    order = order_units(settings, plan)
    with open_ledger(settings.ledger_path) as ledger:
        _, answers, tallies = ask_units(settings, case, order, passages, ledger, add)
        contexts = {unit: ledger.name_context(case.charts.render(unit.hadm_id)) for unit, _ in order}
        failures = {model: ledger.failures(model) for model, _ in settings.models}
    judges = [_verdicts(kept) for kept in answers]
    panel = combine(judges)
    certificate = certify(plan, panel, case.charts.subject)
    table = row_table(plan.drafts, judges, panel)
    rows = {
        str(name): judge_row(lines, certificate, case.gold)
        for (name,), lines in table.group_by(["row"], maintain_order=True)
    }
    card = {
        "mode": "unit",
        "prompt_sha256": read_protocol(UNIT).digest,
        **about(settings, case, passages, [kept.values() for kept in answers], failures),
        "n_items": len(order),
        "n_patients": len({case.charts.subject(unit.hadm_id) for unit, _ in order}),
        **certificate.described(),
        **evidence(answers),
        **overall(plan.drafted, panel, certificate, case),
        "by_model": {
            model: certify(plan, judge, case.charts.subject).described()
            for (model, _), judge in zip(settings.models, judges, strict=True)
        },
        "human": human(settings, case, plan.drafted, judges),
    }
    folder = settings.evaluation / FOLDER
    units = _unit_table(order, contexts, judges, settings, case)
    shown = table.drop_nulls("label").select("row", "subject_id", "hadm_id", pl.col("label").alias("drug"), *_FIGURES)
    _write(folder, {"verdicts.parquet": shown, "units.parquet": units}, card, rows)
    return Judged(rows, card, tallies, folder)


_FIGURES = ("verdict", "approval", "weight")


def judge_lists(settings: Settings, add: Add = QUIET) -> Judged:
    """Judge as the reference did, a count per list; the card says that nothing is known of the judge.

    Raises:
        ConfigError: several judges are given, where the reference has one; and see `judge_units`.
    """
    if len(settings.models) != 1:
        raise ConfigError("--paper-parity has one judge, as the reference; give one --model")
    case = read_case(settings)
    passages = pass_all(settings, case)
    lists = parity.lists_of(case.drafts)
    with open_ledger(settings.ledger_path) as ledger:
        questions = list_questions(case, ledger)
        [snapshot], tallies = ask_all(settings, passages, questions, ledger, add)
        kept = find_all(questions, snapshot, settings.decoding, ledger)
        failures = {model: ledger.failures(model) for model, _ in settings.models}
    rows = parity.parity_rows(lists, dict(zip(parity.distinct(lists), kept, strict=True)))
    card = {
        "mode": "paper-parity",
        "badge": PAPER_PARITY,
        "prompt_sha256": read_protocol(LIST).digest,
        **about(settings, case, passages, [kept], failures),
        "n_items": len(questions),
        "n_patients": case.drafts["subject_id"].n_unique(),
        "certified": False,
        "reasons": ["no decoys: nobody knows what this judge lets pass"],
    }
    folder = settings.evaluation / PARITY_FOLDER
    _write(folder, {}, card, rows)
    return Judged(rows, card, tallies, folder)


def _verdicts(answers: Mapping[Unit, Kept | None]) -> dict[Unit, Verdict | None]:
    return {unit: kept.verdict if kept else None for unit, kept in answers.items()}


def _unit_table(
    order: Sequence[tuple[Unit, str]],
    contexts: Mapping[Unit, str],
    judges: Sequence[Verdicts],
    settings: Settings,
    case: Case,
) -> pl.DataFrame:
    """Return a line a unit and judge: what was asked, why, and the verdict; null where nobody answered."""
    lines = [
        {
            "item_id": unit.item_id,
            "subject_id": case.charts.subject(unit.hadm_id),
            "hadm_id": unit.hadm_id,
            "context_hmac": contexts[unit],
            "drug": unit.drug,
            "repeat": unit.repeat,
            "kind": kind,
            "model": model,
            "verdict": verdict.value if (verdict := judge[unit]) else None,
        }
        for (model, _), judge in zip(settings.models, judges, strict=True)
        for unit, kind in order
    ]
    return pl.DataFrame(lines, schema_overrides={"verdict": pl.String}, infer_schema_length=None).sort(
        "item_id", "model"
    )


def _write(
    folder: Path, tables: Mapping[str, pl.DataFrame], card: dict[str, Any], rows: Mapping[str, Appropriateness]
) -> None:
    for name, table in tables.items():
        with artefacts.whole_or_absent(folder / name) as new:
            table.write_parquet(new)
    with artefacts.whole_or_absent(folder / CARD) as new:
        artefacts.write_json(new, card)
    with artefacts.whole_or_absent(folder / ROWS) as new:
        artefacts.write_json(new, {"card_sha256": sha256_file(folder / CARD), "rows": described(rows)})
