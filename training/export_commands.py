"""The subcommands `export-model` and `curves`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export_model(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint made by `rxdraft train`: RUNS/rank-R/step-N.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier export there is replaced.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add the adapter to the base: one whole model, and how far it is off.")
    ] = False,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Of a whole model's weights; auto: the base's own.")
    ] = "auto",
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of the base, where it is not where training found it.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Cohort whose validation split a whole model is asked; synthetic ones without it."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload to this repository of the hub, new ones private.")
    ] = None,
    yes_credentialed_data: Annotated[
        str | None,
        typer.Option(metavar="COHORT", help="With --push: data of this cohort, by its first 12 digits, may go there."),
    ] = None,
) -> None:
    """Write a checkpoint as an adapter for PEFT and vLLM, or as one whole model, with its card."""
    from etl.progress import stages
    from training.export import hub
    from training.export.export import export_model
    from training.manifest import read_manifest

    if push:
        manifest = read_manifest(checkpoint)
        hub.check_push(manifest, push, base or manifest.base, merge or manifest.method == "full", yes_credentialed_data)
    with stages("export") as told:
        exported = export_model(
            checkpoint,
            out,
            merge=merge,
            dtype=dtype,
            base=base,
            cohort=data,
            on_stage=lambda stage: told(stage, 0, 0),
        )
    if exported.disagreement:
        print(
            f"same token in front at {exported.disagreement.argmax_agreement:.2%} of "
            f"{exported.disagreement.tokens:,} answer tokens"
        )
    print(hub.push(out, push, exported.provenance) if push else out)


def curves(
    runs: Annotated[Path, typer.Option(help="Folder of `rxdraft train`, or of one run in it; it may still train.")],
    out: Annotated[Path | None, typer.Option(help="PNG to write; RUNS/curves.png without it.")] = None,
) -> None:
    """Draw losses, gradient norm and size of the update by step, a line a run."""
    from training.curves import draw_curves

    print(draw_curves(runs, out))
