"""The subcommand `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.loading import BASE, DATA, MODEL, loader


def predict(
    model: MODEL,
    admissions: Annotated[Path, typer.Option(help="Parquet, a row an admission, its columns the fields of the API.")],
    out: Annotated[Path, typer.Option(help="Parquet to write, a row for each row.")],
    id_: Annotated[str | None, typer.Option("--id", help="Column to copy into --out, such as hadm_id.")] = None,
    base: BASE = None,
    data: DATA = None,
) -> None:
    """Draft a list for every admission of a file; a killed run goes on where it was.

    The answers are the service's. A row that fits no request gets an error instead, and the exit status is 1.
    """
    from etl.errors import ConfigError
    from etl.progress import bar

    load_model = loader(model, base, data)
    if not admissions.is_file():
        raise ConfigError(f"{admissions} is no file; give a Parquet file of admissions")
    from serving import batch

    recommender = load_model()
    with bar("drafts") as told:
        drafted, refused = batch.predict(recommender, admissions, out, id_, lambda done, total: told(done))
    print(f"{out}: drafted {drafted:,}" + (f", refused {refused:,}: the column error says why" if refused else ""))
    if refused:
        raise typer.Exit(1)
