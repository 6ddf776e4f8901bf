"""The subcommand `judge`, with `judge equate` and `judge export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.outside.options import (
    Affirmation,
    Api,
    Concurrency,
    Endpoint,
    MaxCost,
    MaxTokens,
    PerMinute,
    Prices,
    Temperature,
    Timeout,
    TokensPerMinute,
    Tries,
    read_temperature,
)

if TYPE_CHECKING:
    from evaluation.judge.judging import Judged

app = typer.Typer(no_args_is_help=False, add_completion=False)

Evaluation = Annotated[Path | None, typer.Option(help="Folder of `rxdraft evaluate`, with its drafts.", metavar="DIR")]
Data = Annotated[Path | None, typer.Option(help="Cohort of the drafts, made by `rxdraft etl`.", metavar="COHORT")]
Model = Annotated[
    list[str] | None,
    typer.Option(help="Judge, as its server names it, or NAME@URL; repeat for a panel.", metavar="NAME"),
]
LedgerPath = Annotated[
    Path | None, typer.Option("--ledger", help="SQLite file of all verdicts; DIR/judge/ledger.sqlite without it.")
]
Row = Annotated[list[str] | None, typer.Option(help="Judge only this row; repeatable. All without it.")]
Decoys = Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of decoys among all units.")]
Seed = Annotated[int, typer.Option(help="Of the decoys and of the order of questions.")]
Gold = Annotated[Path | None, typer.Option(help="gold.csv of `rxdraft review finalize`; corrects the figures.")]
Interactions = Annotated[Path | None, typer.Option(help="CSV of drug pairs; the shipped one without it.")]
Replay = Annotated[bool, typer.Option("--replay", help="Ask nobody: work out the figures from the ledger.")]


@app.callback(invoke_without_command=True)
def judge(
    context: typer.Context,
    evaluation: Evaluation = None,
    data: Data = None,
    model: Model = None,
    endpoint: Endpoint = None,
    row: Row = None,
    paper_parity: Annotated[
        bool, typer.Option("--paper-parity", help="As the reference: a count per list, no decoys, with its badge.")
    ] = False,
    decoys: Decoys = 0.15,
    gold: Gold = None,
    interactions: Interactions = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print units, tokens, price and provenance; send nothing.")
    ] = False,
    replay: Replay = False,
    affirmation: Affirmation = None,
    prices: Prices = None,
    max_cost: MaxCost = None,
    concurrency: Concurrency = 4,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    timeout: Timeout = 120.0,
    tries: Tries = 6,
    api: Api = "chat",
    temperature: Temperature = "0",
    max_tokens: MaxTokens = 400,
    ledger: LedgerPath = None,
    seed: Seed = 0,
) -> None:
    """Ask a language model whether each drafted drug suits its patient, among decoys that show how good it is.

    Every verdict is kept: interrupted at any point, the same command goes on. Data not made with --open-data are
    credentialed and stay on this machine, unless --affirmation lets them go.

    --endpoint is http://127.0.0.1:8000/v1 for vLLM or `transformers serve`; https://api.openai.com/v1; or
    https://RESOURCE.openai.azure.com/openai/v1, where a model is a deployment. A server elsewhere gets the key in
    OPENAI_API_KEY, one on this machine none.
    """
    if context.invoked_subcommand:
        return
    from etl.outside.ask import Limits
    from etl.outside.endpoint import Decoding
    from etl.progress import bars
    from evaluation.judge.judging import judge_lists, judge_units
    from evaluation.judge.rehearsal import rehearse
    from evaluation.judge.run import Settings

    settings = Settings(
        evaluation=_given(evaluation, "--evaluation"),
        cohort=_given(data, "--data"),
        models=_models(model, endpoint, replay=replay),
        rows=tuple(row or ()),
        ledger=ledger,
        decoys=decoys,
        seed=seed,
        decoding=Decoding(read_temperature(temperature), max_tokens),
        limits=Limits(concurrency, requests_per_minute, tokens_per_minute, tries),
        timeout_seconds=timeout,
        gold=gold,
        interactions=interactions,
        affirmation=affirmation,
        prices=prices,
        max_usd=max_cost,
        replay=replay,
        api=api,
    )
    if dry_run:
        print(rehearse(settings, paper_parity=paper_parity))
        return
    run = judge_lists if paper_parity else judge_units
    if replay:
        judged = run(settings)
    else:
        with bars() as add:
            judged = run(settings, add)
    _show(judged)


@app.command()
def equate(
    old: Annotated[str, typer.Option(help="The judge that was asked before, as --model named it.")],
    evaluation: Evaluation = None,
    data: Data = None,
    model: Model = None,
    endpoint: Endpoint = None,
    row: Row = None,
    decoys: Decoys = 0.15,
    gold: Gold = None,
    interactions: Interactions = None,
    affirmation: Affirmation = None,
    concurrency: Concurrency = 4,
    timeout: Timeout = 120.0,
    api: Api = "chat",
    temperature: Temperature = "0",
    max_tokens: MaxTokens = 400,
    ledger: LedgerPath = None,
    seed: Seed = 0,
) -> None:
    """Ask a new judge the decoys and labelled units that an old one was asked, and say how far the scale moved.

    --decoys, --seed, --row, --temperature and --max-tokens must be those the old judge was asked with.
    """
    from etl.outside.ask import Limits
    from etl.outside.endpoint import Decoding
    from etl.progress import bars
    from evaluation.judge.equate import equate as run
    from evaluation.judge.equate import to_text
    from evaluation.judge.run import Settings

    settings = Settings(
        evaluation=_given(evaluation, "--evaluation"),
        cohort=_given(data, "--data"),
        models=_models(model, endpoint),
        rows=tuple(row or ()),
        ledger=ledger,
        decoys=decoys,
        seed=seed,
        decoding=Decoding(read_temperature(temperature), max_tokens),
        limits=Limits(concurrency),
        timeout_seconds=timeout,
        gold=gold,
        interactions=interactions,
        affirmation=affirmation,
        api=api,
    )
    with bars() as add:
        found = run(settings, old, add)
    print(to_text(found))


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier export there is replaced.")],
    evaluation: Evaluation = None,
    ledger: LedgerPath = None,
) -> None:
    """Write the verdicts for others: no text of a chart, no identifier, enough to recompute the table."""
    from evaluation.judge.share import export as run

    for name, rows in run(_given(evaluation, "--evaluation"), ledger, out).items():
        print(f"{name:<14} {rows:>9,} rows")


def _given(path: Path | None, option: str) -> Path:
    from etl.errors import ConfigError

    if path is None:
        raise ConfigError(f"{option} is missing; see `rxdraft judge --help`")
    return path


def _models(models: list[str] | None, endpoint: str | None, *, replay: bool = False) -> tuple[tuple[str, str], ...]:
    """Pair every model with its URL; a name may itself hold an @."""
    from etl.errors import ConfigError

    found = []
    for said in models or []:
        name, at, url = said.rpartition("@http")
        found.append((name, f"http{url}") if at else (said, endpoint or ""))
    if not found:
        raise ConfigError("--model is missing: who judges? Give its name, as its server knows it")
    if not replay and (without := [name for name, url in found if not url]):
        raise ConfigError(f"nobody knows where {', '.join(without)} is; give --endpoint URL")
    if len({name for name, _ in found}) < len(found):
        raise ConfigError("a panel needs different judges; one --model is given twice")
    return tuple(found)


def _show(judged: Judged) -> None:
    """Print each row's figure with its badge, then what the decoys said of the judge."""
    width = max(map(len, judged.rows), default=0)
    for name, row in judged.rows.items():
        counts = f"{row.visits} lists" if judged.card["mode"] == "paper-parity" else f"{row.drugs} drugs"
        print(f"{name:<{width}}  {row.text}  ({counts}){'  ' + row.badge if row.badge else ''}")
    card = judged.card
    print()
    for line in _certificate(card):
        print(line)
    for model, tally in zip(card["models"], judged.tallies, strict=False):
        left = ", ".join(f"{state} {count}" for state, count in sorted(tally.open.items()))
        print(
            f"{model['requested']}: {tally.asked:,} asked, {tally.stored:,} from the ledger"
            + (f", {tally.open.total():,} left open ({left}); run again to ask them" if left else "")
        )
    print("answers: " + (", ".join(f"{state} {count:,}" for state, count in card["states"].items()) or "none"))
    print(f"written to {judged.folder}")


def _certificate(card: dict[str, Any]) -> list[str]:
    if card["mode"] == "paper-parity":
        return [str(card["badge"])]

    def rate(value: dict[str, Any]) -> str:
        if value["est"] is None:
            return "unknown"
        lo, hi = value["ci"]
        return f"{value['est']:.2f} [{lo:.2f}, {hi:.2f}] of {value['n']}"

    f = card["f"]
    lines = [f"true orders approved: {rate(card['s'])}"]
    lines += [f"wrong drugs approved, {kind}: {rate(value)}" for kind, value in f.items() if value["n"]]
    if gap := card["swap_gap"]:
        lo, hi = gap["ci"]
        lines.append(f"own chart against another's: {gap['est']:+.2f} [{lo:+.2f}, {hi:+.2f}]")
    reasons = card["reasons"]
    return [*lines, f"UNCERTIFIED JUDGE: {'; '.join(reasons)}" if reasons else "certified"]
