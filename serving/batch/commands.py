"""The subcommand `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from etl.outside.options import Affirmation, Concurrency, Endpoint, PerMinute, Timeout, Tries
from serving.loading import BASE, DATA, MODEL

if TYPE_CHECKING:
    from serving.batch.parts import Counts


def predict(
    model: MODEL,
    admissions: Annotated[Path, typer.Option(help="Parquet, a row an admission, its columns the fields of the API.")],
    out: Annotated[Path, typer.Option(help="Parquet to write, a row for each row.")],
    id_: Annotated[str | None, typer.Option("--id", help="Column to copy into --out, such as hadm_id.")] = None,
    base: BASE = None,
    data: DATA = None,
    k: Annotated[
        int | None,
        typer.Option(
            min=1, help="Lists drawn for votes; 1: one list, without probabilities. As calibrated without it."
        ),
    ] = None,
    all_probabilities: Annotated[
        bool, typer.Option("--all-probabilities", help="Write every formulary drug's probability: column chances.")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(help="Draft on Ray: a cluster's address; or auto, for this node's or its own.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="With --ray, models at work at once.")] = None,
    endpoint: Endpoint = None,
    endpoint_model: Annotated[
        str | None, typer.Option(help="What --endpoint calls the checkpoint.", metavar="NAME")
    ] = None,
    send: Annotated[
        Literal["ids", "messages"] | None,
        typer.Option(help="What --endpoint is sent; without it, ids where it takes them."),
    ] = None,
    open_data: Annotated[
        bool, typer.Option("--open-data", help="--admissions is under no use agreement and may go to any endpoint.")
    ] = False,
    affirmation: Affirmation = None,
    concurrency: Concurrency = 16,
    requests_per_minute: PerMinute = None,
    timeout: Timeout = 120.0,
    tries: Tries = 6,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --endpoint, print what would be sent where; send nothing.")
    ] = False,
) -> None:
    """Draft a list for every admission of a file; a killed run goes on where it was.

    The answers are the service's. A row that fits no request gets an error instead, and the exit status is 1.

    --endpoint has another program write the lists: vLLM, llama.cpp or `transformers serve`, with the checkpoint as
    `rxdraft export-model` writes it. Admissions are credentialed data unless --open-data says otherwise: they stay on
    this machine, unless --affirmation lets them go.
    """
    from etl.errors import ConfigError
    from etl.progress import bars
    from serving.batch.predict import Elsewhere, Settings, predict, rehearse

    if not admissions.is_file():
        raise ConfigError(f"{admissions} is no file; give a Parquet file of admissions")
    elsewhere = None
    if endpoint is not None and endpoint_model is not None:
        elsewhere = Elsewhere(
            *(endpoint, endpoint_model, send, open_data, affirmation),
            *(concurrency, requests_per_minute, timeout, tries),
        )
    elif endpoint is not None or endpoint_model is not None:
        raise ConfigError("--endpoint and --endpoint-model go together: where the engine is, and what it serves")
    settings = Settings(model, admissions, out, id_, base, data, k, all_probabilities, ray, workers, elsewhere)
    if dry_run:
        print(rehearse(settings))
        return
    with bars() as add:
        told = add("drafts")
        counts = predict(settings, lambda done, total: told(done, total, None))
    print(f"{out}: {_in_words(counts)}")
    if counts.refused or counts.unanswered:
        raise typer.Exit(1)


def _in_words(counts: Counts) -> str:
    words = [f"drafted {counts.drafted:,}"]
    if counts.refused:
        words.append(f"refused {counts.refused:,}: the column error says why")
    if counts.not_well_formed:
        words.append(f"{counts.not_well_formed:,} answers were no list")
    if counts.not_in_formulary:
        words.append(f"{counts.not_in_formulary:,} drugs were in no formulary")
    if counts.unanswered:
        words.append(f"no answer to {counts.unanswered:,}: the same command asks for them again")
    return ", ".join(words)
