"""The subcommand `baselines`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def baselines(
    data: Annotated[Path, typer.Option(help="Cohort: folder of `rxdraft etl`; all its splits are dealt anew.")],
    folds: Annotated[int, typer.Option(help="Parts the patients are dealt into; each is scored by the others.")] = 5,
    shuffles: Annotated[int, typer.Option(min=1, help="Times the patients are dealt anew.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the dealing.")] = 0,
    length: Annotated[
        str, typer.Option(help="Drugs per list: median of training, own (as served), true, or a number.")
    ] = "median",
    with_previous: Annotated[
        bool, typer.Option("--with-previous", help="Score only admissions of patients who had one before.")
    ] = False,
) -> None:
    """Score every baseline by cross-validation over patients: the numbers a model has to beat."""
    from etl.progress import bar
    from evaluation import demo_reference
    from evaluation.cross_validation import Lengths, best, cross_validate, describe, read_everyone, to_markdown
    from serving.baselines.fit import NAMES

    lengths = Lengths(length)
    samples = read_everyone(data)
    with bar("baselines", total=folds * shuffles * len(NAMES)) as told:
        rows = cross_validate(
            samples,
            folds=folds,
            shuffles=shuffles,
            seed=seed,
            lengths=lengths,
            with_previous=with_previous,
            told=told,
        )
    beside = demo_reference.applies(samples) and not with_previous
    said = [to_markdown(rows, beside=beside), describe(samples, folds, shuffles, lengths, with_previous)]
    print(*said, *([best(rows)] if beside else []), sep="\n\n")
