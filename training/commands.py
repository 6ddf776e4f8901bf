"""The subcommand `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[Path, typer.Option(help="Cohort made by `rxdraft etl`.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs: rank-R/step-N/ with adapter and manifest.json.")],
    base: Annotated[
        str,
        typer.Option(help="Folder or hub id of the base model, such as meta-llama/Llama-3.1-8B-Instruct; or tiny."),
    ] = "tiny",
    config: Annotated[str, typer.Option(help="Shipped config (reference, smoke) or a TOML file.")] = "reference",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the config; repeatable.")] = None,
    rank: Annotated[list[int] | None, typer.Option(help="Train only this rank; repeatable.")] = None,
    method: Annotated[str | None, typer.Option(help="fa-lora or full, over the config's.")] = None,
) -> None:
    """Fine-tune a base on the cohort's training split; killed runs go on where they were."""
    from etl.progress import bars
    from training.config import load_config

    overrides = list(set_ or ())
    if rank:
        overrides.append(f"ranks={rank}")
    if method:
        overrides.append(f"method={method}")
    settings = load_config(config, overrides)

    from training import loop
    from training.tiny import tiny_base

    with bars() as add:
        folder = str(tiny_base(add)) if base == "tiny" else base
        made = loop.train(settings, data, folder, out, on_run=add)
    for checkpoint in made:
        print(checkpoint)
