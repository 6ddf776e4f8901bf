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
    rows: Annotated[
        str | None, typer.Option(help="Rows beside the checkpoints, comma-separated, or none; all, else.")
    ] = None,
    matched_lengths: Annotated[
        bool,
        typer.Option("--matched-lengths", help="Baselines' lists as long as the selected checkpoint's, not as served."),
    ] = False,
    strategies: Annotated[
        str | None, typer.Option(help="Also ask by prompting strategies: a TOML file, or `shipped`.")
    ] = None,
    oracle: Annotated[Path | None, typer.Option(help="oracle.parquet of `rxdraft synth`, for the best score.")] = None,
    interactions: Annotated[
        Path | None, typer.Option(help="CSV of drugs that should not meet; the shipped list, else.")
    ] = None,
    draws: Annotated[int, typer.Option(min=200, help="Redraws of patients for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the redraws.")] = 0,
    paper_parity: Annotated[
        bool, typer.Option("--paper-parity", help="Print the reference's three columns alone.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print one admission with its draft, worked.")] = False,
) -> None:
    """Score every checkpoint through the served recommender and print the rank x step table."""
    from etl.progress import Told, bars
    from evaluation import sections, table
    from evaluation.evaluate import evaluate as run
    from evaluation.results import Redrawn
    from evaluation.rows import ROWS, Asked
    from evaluation.strategies.strategy import read_strategies

    named = None if rows is None else [name.strip() for name in rows.split(",")]
    asked = Asked(
        rows=ROWS if named is None else tuple(name for name in named if name not in ("", "none")),
        matched_lengths=matched_lengths,
        oracle=oracle,
        strategies=read_strategies(None if strategies == "shipped" else Path(strategies)) if strategies else (),
        interactions=interactions,
        redrawn=Redrawn(draws, seed),
    )
    target = out or runs / f"evaluation-{split}"
    with bars() as add:
        told: dict[str, Told] = {}

        def on_drafts(row: str, done: int, total: int) -> None:
            if row not in told:
                told[row] = add(f"drafts {row}")
            told[row](done, total, None)

        found = run(runs, data, split, target, asked, base=base, told=on_drafts)
    sections.write(found)
    print(table.parity_table(found) if paper_parity else table.main_table(found))
    if show:
        print(table.worked_example(found) + "\n")
    print(f"written to {target}: table.md, results.csv, evaluation.json")
