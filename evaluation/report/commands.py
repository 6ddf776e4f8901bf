"""The subcommand `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    evaluation: Annotated[Path, typer.Option(help="Folder of `rxdraft evaluate`.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; DIR/report, else.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="CSV of another's table, to show beside ours: rank, steps, output_rate, accuracy, appropriateness.",
            metavar="FILE",
        ),
    ] = None,
    review: Annotated[Path | None, typer.Option(help="Folder of `rxdraft review finalize`.", metavar="REVIEW")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: recompute every figure and fail where one has drifted.")
    ] = False,
) -> None:
    """Write an evaluation as one HTML page, tables for papers, a model card and the TRIPOD-LLM items."""
    from etl.errors import ConfigError
    from evaluation.report.write import check_report, write_report

    target = out or evaluation / "report"
    if check:
        if reference or review:
            raise ConfigError("--check reads what the report was made from; leave --reference and --review out")
        print(f"{check_report(evaluation, target):,} figures recomputed; all files of {target} hold")
        return
    print(f"written to {target}: {', '.join(write_report(evaluation, target, reference, review))}")
