"""The subcommand `medqa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def medqa(
    items: Annotated[list[Path], typer.Option(help="Questions as JSON lines, MedQA or MedMCQA; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder to write; answers that are already there are not asked again.")],
    runs: Annotated[Path | None, typer.Option(help="Folder of `rxdraft train`: every checkpoint and the base.")] = None,
    model: Annotated[Path | None, typer.Option(help="One checkpoint, and its base.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The base alone; beside --runs or --model, where their base lies now.")
    ] = None,
    tries: Annotated[int, typer.Option(min=1, help="Answers to each question; the first is greedy.")] = 10,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the answers after the first.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Of these answers, and of the bootstrap.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 64,
    likelihood: Annotated[
        Literal["letters", "options"], typer.Option(help="Score the options' letters, or their words per token.")
    ] = "letters",
    margin: Annotated[float, typer.Option(min=0.1, max=100, help="Loss that counts as none, in points.")] = 3.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions of each file.")] = None,
) -> None:
    """Ask multiple-choice questions of medicine: does a checkpoint still know what its base knew?"""
    from etl.errors import ConfigError

    if runs and model:
        raise ConfigError("--runs and --model both say who is asked; give one")

    from etl.progress import Told, bars
    from evaluation.medqa import report
    from evaluation.medqa.exam import Continuation, Protocol, examine, find_examined
    from evaluation.medqa.items import read_item_sets

    sets = read_item_sets(items, limit)
    examined = find_examined(runs or model, base)
    protocol = Protocol(tries, temperature, seed, max_tokens, Continuation(likelihood))
    with bars() as add:
        told: dict[str, Told] = {}

        def on_items(name: str, done: int, total: int) -> None:
            if name not in told:
                told[name] = add(name)
            told[name](done, total, None)

        answers = examine(sets, examined, out / "answers", protocol, on_items)
    result = report.report(answers, sets, examined, protocol, margin / 100)
    print(report.write(result, answers, out))
    print(f"written to {out}")
