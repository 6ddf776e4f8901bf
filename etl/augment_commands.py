"""The subcommand `augment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.outside.options import (
    Affirmation,
    Api,
    Concurrency,
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
    from etl.augment.run import Grown

Seeds = Annotated[
    Path | None, typer.Option(help="Seed tasks, as `rxdraft import` takes them; the shipped ones without it.")
]
Data = Annotated[
    Path | None, typer.Option(help="Cohort whose training samples are the seeds, instead of --seeds.", metavar="COHORT")
]
OpenData = Annotated[
    bool, typer.Option("--open-data", help="The --seeds file is under no use agreement and may go to any endpoint.")
]
Ledger = Annotated[Path | None, typer.Option(help="SQLite file of all answers; OUT.ledger.sqlite without it.")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="Folder of the base that will be trained; tokens are estimated without it.")
]


def augment(
    out: Annotated[Path, typer.Option(help="Folder of the corpus to write.")],
    model: Annotated[str, typer.Option(help="Who writes the tasks, as its server names it.", metavar="NAME")],
    endpoint: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server.", metavar="URL")],
    seeds: Seeds = None,
    data: Data = None,
    open_data: OpenData = False,
    tasks: Annotated[int, typer.Option(min=1, help="New tasks wanted.")] = 100,
    per_request: Annotated[int, typer.Option(min=1, help="New tasks asked for at once.")] = 4,
    examples: Annotated[int, typer.Option(min=1, help="Tasks shown in a request.")] = 8,
    grown: Annotated[int, typer.Option(min=0, help="Of them new ones, once there are some.")] = 2,
    tokenizer: Tokenizer = None,
    max_length: Annotated[int, typer.Option(min=64, help="Tokens of the longest task with its answer.")] = 1024,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print requests, tokens, price and provenance; send nothing.")
    ] = False,
    affirmation: Affirmation = None,
    prices: Prices = None,
    max_cost: MaxCost = None,
    concurrency: Concurrency = 4,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    timeout: Timeout = 300.0,
    tries: Tries = 6,
    api: Api = "chat",
    temperature: Temperature = "0.7",
    max_tokens: MaxTokens = 2048,
    ledger: Ledger = None,
    seed: Annotated[int, typer.Option(help="Of the draw of examples.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another corpus at --out.")] = False,
) -> None:
    """Have a language model write new tasks like some seeds: a corpus that `rxdraft train --data` takes.

    Every answer is kept: interrupted at any point, the same command goes on. What is of no use, or nearly a seed or an
    earlier task, is left out and counted. Seeds of a cohort not made with --open-data, and of a file without it, are
    credentialed: they stay on this machine unless --affirmation lets them go, and what is made of them is under their
    terms.

    --endpoint is as in `rxdraft judge`: http://127.0.0.1:8000/v1, https://api.openai.com/v1, or Azure's.
    """
    from etl.augment.growth import Plan
    from etl.augment.rehearsal import rehearse
    from etl.augment.run import augment as run
    from etl.augment.settings import Settings
    from etl.outside.ask import Limits
    from etl.outside.endpoint import Decoding
    from etl.progress import bars

    settings = Settings(
        *(out, model, endpoint, seeds, data, open_data),
        plan=Plan(tasks, per_request, examples, grown, max_length, seed),
        decoding=Decoding(read_temperature(temperature), max_tokens),
        limits=Limits(concurrency, requests_per_minute, tokens_per_minute, tries),
        timeout_seconds=timeout,
        ledger=ledger,
        tokenizer=tokenizer,
        affirmation=affirmation,
        prices=prices,
        max_usd=max_cost,
        api=api,
        overwrite=overwrite,
    )
    if dry_run:
        print(rehearse(settings))
        return
    with bars() as add:
        done = run(settings, add("augment"))
    _show(done, out)


_TO_DO = {
    "max_cost": "--max-cost is spent; with a higher one the same command goes on",
    "nothing new": "nothing new came any more; other seeds, a higher --temperature or another model may help",
}


def _show(done: Grown, out: Path) -> None:
    """Print what became of every answer and of every task."""
    about = done.corpus["augment"]
    written = about["tasks"]["written"]
    print("answers: " + ", ".join(f"{state} {count:,}" for state, count in sorted(about["answers"].items())))
    print(f"tasks written: {written:,}")
    for fate, count in sorted(about["tasks"].items(), key=lambda pair: -pair[1]):
        if fate != "written":
            print(f"  {'kept' if fate == 'kept' else f'left out: {fate}'}: {count:,}")
    if done.tally is None:
        print(f"{out} is complete; nothing was asked")
        return
    spent = f", ${done.tally.usd:,.2f}" if done.tally.usd else ""
    print(f"{about['model_returned']}: {done.tally.asked:,} asked, {done.tally.stored:,} from the ledger{spent}")
    if about["ended"] in _TO_DO:
        print(f"fewer than wanted: {_TO_DO[about['ended']]}")
    splits = ", ".join(f"{split} {count['conversations']:,}" for split, count in done.corpus["splits"].items())
    print(f"written to {out}: {splits}")
