"""The subcommand `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etl.domain import Split


def evaluate(
    runs: Annotated[Path, typer.Option(help="Folder of `rxdraft train`, or one checkpoint.")],
    split: Annotated[Split, typer.Option(help="Part of the cohort to score.")] = Split.TEST,
    data: Annotated[Path | None, typer.Option(help="Cohort of the runs; where they were trained on it, else.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUNS/evaluation-SPLIT, else.")] = None,
    base: Annotated[str | None, typer.Option(help="Where the base lies now, if not where training had it.")] = None,
    oracle: Annotated[Path | None, typer.Option(help="oracle.parquet of `rxdraft synth`, for the best score.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print one admission with its draft, worked.")] = False,
    judge: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible endpoint that judges drafts.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Its model, as the endpoint names it.")] = None,
    judge_may_leave_machine: Annotated[
        bool, typer.Option("--judge-may-leave-machine", help="Let --judge send patient facts to another machine.")
    ] = False,
) -> None:
    """Score every checkpoint through the served recommender and print the rank x step table."""
    from dataclasses import asdict

    from etl.errors import ConfigError
    from etl.progress import Told, bars
    from evaluation import table as words
    from evaluation.evaluate import evaluate as run
    from evaluation.judge import Judge

    # Before hours of drafting, not after: an endpoint that must not be asked is refused here.
    if bool(judge) != bool(judge_model):
        raise ConfigError("--judge and --judge-model go together: who is asked, and for which model")
    asked = Judge(judge, judge_model, allow_remote=judge_may_leave_machine) if judge and judge_model else None
    target = out or runs / f"evaluation-{split}"
    with bars() as add:
        told: dict[str, Told] = {}

        def on_drafts(cell: str, done: int, total: int) -> None:
            if cell not in told:
                told[cell] = add(f"drafts {cell}")
            told[cell](done, total, None)

        table = run(runs, data, split, target, base=base, oracle=oracle, on_drafts=on_drafts)
        judged = None
        if asked:
            judged = {}
            for cell in table.cells:
                judged[cell.name] = asdict(asked.judge(cell.predictions, table.samples, add(f"judge {cell.name}")))
    print(words.write(table, target, judged))
    if show:
        matched = next(cell for cell in table.cells if cell.name == table.matched_to)
        print(words.worked_example(table, matched) + "\n")
    print(f"written to {target}")
