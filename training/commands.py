"""The subcommand `train`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Copy(StrEnum):
    """Who gets a copy of a run's log; typer takes no list of literals."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"


def train(
    data: Annotated[Path, typer.Option(help="Cohort made by `rxdraft etl`.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs: rank-R/step-N/ with adapter and manifest.json.")],
    base: Annotated[
        str,
        typer.Option(help="Folder or hub id of the base model, such as meta-llama/Llama-3.1-8B-Instruct; or tiny."),
    ] = "tiny",
    config: Annotated[
        str, typer.Option(help="Shipped config (reference, best, smoke, …) or a TOML file.")
    ] = "reference",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the config; repeatable.")] = None,
    rank: Annotated[list[int] | None, typer.Option(help="Train only this rank; repeatable.")] = None,
    method: Annotated[
        Literal["fa-lora", "lora", "lora-fa", "qlora", "full"] | None,
        typer.Option(help="What learns: B alone, A and B, B with corrected gradient, A and B over 4 bits, or all."),
    ] = None,
    track: Annotated[
        list[Copy] | None,
        typer.Option(help="Copy the numbers of log.jsonl there too; repeatable."),
    ] = None,
) -> None:
    """Fine-tune a base on the cohort's training split; killed runs go on where they were.

    Several processes: torchrun --nproc-per-node N -m rxdraft train …, or accelerate launch; the result is the same.
    """
    from etl.progress import bars
    from training.config import load_config

    overrides = list(set_ or ())
    if rank:
        overrides.append(f"ranks={rank}")
    if method:
        overrides.append(f"method={method}")
    settings = load_config(config, overrides)

    from training import distributed, loop
    from training.tiny import tiny_base

    speaks = distributed.is_first()
    with bars(quiet=not speaks) as add:
        folder = str(distributed.once(lambda: tiny_base(add))) if base == "tiny" else base
        made = loop.train(settings, data, folder, out, on_run=add, trackers=[copy.value for copy in track or ()])
    distributed.leave()
    if speaks:
        from training.curves import draw_curves

        for checkpoint in made:
            print(checkpoint)
        print(f"curves: {draw_curves(out)}", file=sys.stderr)  # not among what is made for other commands to take
