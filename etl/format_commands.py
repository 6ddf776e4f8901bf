"""The subcommands `export` and `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from etl.domain import Split


def export(
    data: Annotated[Path, typer.Option(help="Cohort made by `rxdraft etl`, or corpus made by `rxdraft import`.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier export there is replaced.")],
    form: Annotated[
        Literal["chat", "alpaca", "datasets", "meds"],
        typer.Option("--format", help="JSON lines, JSON array, Hugging Face folder, or MEDS events."),
    ],
    split: Annotated[list[Split] | None, typer.Option(help="Only this split; repeatable. All without it.")] = None,
) -> None:
    """Write a cohort in a format that other tools read."""
    from etl.export import Format, export
    from etl.progress import bar

    with bar(f"export as {form}") as told:
        exported = export(data, out, Format(form), tuple(split or Split), on_rows=told)
    for name, rows in exported["splits"].items():
        typer.echo(f"{name:<12} {rows:>11,} {'events' if form == 'meds' else 'conversations'}")


def import_(
    source: Annotated[Path, typer.Option(help="Alpaca-style items or chats: a JSON array, or one object a line.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for `rxdraft train --data`.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the base model, whose tokens count; estimated without it.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=64, help="Tokens of the longest conversation.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of the split of items into train, validation and test.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")] = False,
) -> None:
    """Turn a file of dialogues into a corpus that trains like a cohort: cleaned, distinct, split to length."""
    from etl.dialogues import import_dialogues
    from etl.progress import stages

    with stages("import") as told:
        corpus = import_dialogues(
            source,
            out,
            tokenizer=tokenizer,
            max_length=max_length,
            seed=seed,
            overwrite=overwrite,
            on_stage=lambda stage: told(stage, 0, 0),
        )
    for fate, count in corpus["items"].items():
        typer.echo(f"{fate:<48} {count:>9,}")
    for name, counts in corpus["splits"].items():
        typer.echo(f"{name:<48} {counts['conversations']:>9,} of {counts['items']:,} items")
