"""The subcommand `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etl.domain import Split


def compare(
    model: Annotated[Path, typer.Option(help="Checkpoint made by `rxdraft train`: the folder with manifest.json.")],
    data: Annotated[Path, typer.Option(help="Cohort it was trained on, made by `rxdraft etl`.")],
    split: Annotated[Split, typer.Option(help="Part of the cohort to take admissions from.")] = Split.VALIDATION,
    n: Annotated[int, typer.Option("--n", min=1, help="Admissions, spread evenly over the split.")] = 10,
    strategies: Annotated[
        Path | None, typer.Option(help="TOML of prompting strategies, or `shipped`; the served prompt alone, else.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML page to write; it holds patients' facts.")] = None,
    base: Annotated[str | None, typer.Option(help="Where the base lies now, if not where training had it.")] = None,
) -> None:
    """Ask a base and its checkpoint the same questions, side by side. What is printed holds patients' facts."""
    from etl import artefacts
    from etl.progress import Told, bars
    from evaluation.strategies import compare as comparing
    from evaluation.strategies.strategy import read_strategies

    asked = [comparing.SERVED]
    if strategies:
        asked = read_strategies(None if str(strategies) == "shipped" else strategies)
    with bars() as add:
        told: dict[str, Told] = {}

        def on_drafts(row: str, done: int, total: int) -> None:
            if row not in told:
                told[row] = add(row)
            told[row](done, total, None)

        found = comparing.compare(model, data, split, n, asked, base=base, on_drafts=on_drafts)
    print(comparing.to_text(found))
    if out:
        with artefacts.whole_or_absent(out) as new:
            new.write_text(comparing.to_html(found), "utf-8")
        print(f"written to {out}; it holds patients' facts, keep it where the data may lie")
