"""The subcommand `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    base: Annotated[
        str, typer.Option(help="llama-3.1-8b, llama-3.1-70b, llama-3.2-1b, llama-3.2-3b, tiny, a folder or a hub id.")
    ] = "llama-3.1-8b",
    config: Annotated[str, typer.Option(help="Shipped config or a TOML file.")] = "reference",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the config; repeatable.")] = None,
    method: Annotated[str | None, typer.Option(help="fa-lora, lora, lora-fa, qlora or full; or the config's.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of the adapter; or the config's largest.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples in memory at once; or the config's.")] = None,
    length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of the longest sample; or the config's max_length.")
    ] = None,
    response: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Training samples to an epoch.")] = 3900,
    data: Annotated[
        Path | None, typer.Option(help="Cohort whose samples are measured, instead of the three above; --base FOLDER.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="A card, such as h100 or rtx-4090, or a size, such as 24GB.")] = None,
    mfu: Annotated[float, typer.Option(min=0.01, max=1, help="Share of a card's peak FLOP/s reached; assumed.")] = 0.4,
    reserve: Annotated[float, typer.Option(min=0, help="GiB left for CUDA and the allocator.")] = 2.0,
    presets: Annotated[bool, typer.Option(help="Also which shipped config fits which size of card.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what a training run needs of a GPU, before there is one: memory by part, what fits, time per epoch."""
    from training.config import TrainConfig, load_config

    overrides = [*(set_ or ()), *([f"method={method}"] if method else []), *([f"ranks=[{rank}]"] if rank else [])]
    settings = load_config(config, overrides)

    import json

    from etl.progress import bar
    from training.planner import report
    from training.planner.gpus import find_gpu
    from training.planner.lengths import Lengths, measured, stated
    from training.planner.plan import Assumptions, largest
    from training.planner.plan import plan as plan_run
    from training.planner.plan import presets as plan_presets
    from training.planner.planner import Planner
    from training.planner.shapes import base_config

    def lengths(of: TrainConfig) -> Lengths:
        return measured(data, base, of) if data else stated(length or of.max_length, response, samples)

    assumed = Assumptions(find_gpu(gpu) if gpu else None, mfu, reserve)
    shape = base_config(base)
    planner = Planner(shape, settings, max(settings.ranks))
    result = plan_run(planner, lengths(settings), assumed, batch)
    best = largest(result["grid"], settings.loss_on, assumed, assumed.gpu.memory_gb) if assumed.gpu else None
    table = []
    if presets:
        with bar("presets") as told:
            table = plan_presets(shape, lengths, assumed, lambda done, total: told(done))
    if json_:
        print(json.dumps({"base": base, **result, "largest": best, "presets": table}, indent=2))
    else:
        print(report.text(base, result, best, table))
