"""The command-line options of whoever asks a model elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from etl.errors import ConfigError

Endpoint = Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible server.", metavar="URL")]
Affirmation = Annotated[
    Path | None, typer.Option(help="Signed TOML that lets credentialed data go to --endpoint; see --dry-run.")
]
Api = Annotated[Literal["chat", "responses"], typer.Option(help="Which of OpenAI's APIs the server speaks.")]
Temperature = Annotated[
    str, typer.Option(help="Of the answers; `none` leaves it to the server, as some models demand.")
]
MaxTokens = Annotated[int, typer.Option(min=16, help="Of one answer; a longer one is truncated, and an error.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
PerMinute = Annotated[float | None, typer.Option("--requests-per-minute", min=0.1, help="At most so many.")]
TokensPerMinute = Annotated[float | None, typer.Option("--tokens-per-minute", min=1, help="At most so many.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds one request may take.")]
Tries = Annotated[int, typer.Option(min=1, help="Requests one question gets before it is left open.")]
Prices = Annotated[
    Path | None, typer.Option(help='TOML: a table ["MODEL"] with input_usd_per_million and output_usd_per_million.')
]
MaxCost = Annotated[float | None, typer.Option(min=0.0, help="US dollars; a run that may cost more does not start.")]


def read_temperature(word: str) -> float | None:
    """Return --temperature as a number; None for `none`.

    Raises:
        ConfigError: it is neither.
    """
    if word == "none":
        return None
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"--temperature {word} is neither a number nor `none`") from None
