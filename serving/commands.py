"""The subcommands `recommend` and `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from etl.outside.options import Affirmation, Endpoint
from serving.loading import BASE, DATA, MODEL, K, loader

if TYPE_CHECKING:
    from etl.domain import Admission
    from serving.recommendation import Drafter, Recommendation
    from serving.schemas import DraftRequest


def recommend(
    model: MODEL,
    json: Annotated[Path, typer.Option(help="One admission, as POST /v1/drafts takes it.", allow_dash=True)],
    base: BASE = None,
    data: DATA = None,
    k: K = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell what each probability hangs on.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="What the model writes, not held to the formulary.")] = False,
    interactions: Annotated[Path | None, typer.Option(help="CSV of a site's own interactions to screen for.")] = None,
) -> None:
    """Draft a list for one admission and screen it, without a server; nothing is recorded."""
    from serving.drafting.content import make_content
    from serving.explain import explain as explained
    from serving.screening import Screener
    from serving.starting.fleet import name_of

    request = _read(json)
    screener = Screener(interactions)
    recommender = loader(model, base, data, k)()
    admission = request.to_admission(recommender.vocabulary)
    [recommendation] = _raw(recommender, admission) if raw else recommender.recommend([admission])
    why = explained(recommender, admission, recommendation) if explain or request.explain else None
    content = make_content(request, name_of(str(model)), recommender, screener, admission, recommendation, why)
    print(content.model_dump_json(indent=2))


def _read(json: Path) -> DraftRequest:
    import sys

    from pydantic import ValidationError

    from etl.errors import ConfigError
    from serving.schemas import DraftRequest, describe_errors

    if str(json) != "-" and not json.is_file():
        raise ConfigError(f"{json} is no file; give one admission as JSON")
    body = sys.stdin.buffer.read() if str(json) == "-" else json.read_bytes()
    try:
        return DraftRequest.model_validate_json(body)
    except ValidationError as error:
        places = "; ".join(f"{wrong['at']}: {wrong['kind']}" for wrong in describe_errors(error.errors()))
        raise ConfigError(f"{json} is no admission: {places}") from None


def _raw(recommender: Drafter, admission: Admission) -> list[Recommendation]:
    from etl.errors import ConfigError
    from serving.recommenders.lists import Recommender

    if not isinstance(recommender, Recommender):
        raise ConfigError("--raw is what a model writes, and this one scores drugs; leave it out")
    return recommender.recommend([admission], raw=True)


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Checkpoint or baseline:NAME, or NAME=either; the first of several is the default."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    base: BASE = None,
    data: DATA = None,
    k: K = None,
    endpoint: Endpoint = None,
    endpoint_model: Annotated[
        list[str] | None,
        typer.Option(help="What --endpoint calls the checkpoint; one for each --model.", metavar="NAME"),
    ] = None,
    send: Annotated[
        Literal["ids", "messages"] | None,
        typer.Option(help="What --endpoint is sent; without it, ids where it takes them."),
    ] = None,
    affirmation: Affirmation = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds one request to --endpoint may take.")] = 60.0,
    settings: Annotated[Path | None, typer.Option(help="TOML of settings; see docs/deploy.md.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One of them, as key=value; repeatable.")] = None,
    store: Annotated[
        str | None, typer.Option(help="URL or file of the store; else $RXDRAFT_STORE, else the user's data folder.")
    ] = None,
    dev: Annotated[bool, typer.Option("--dev", help="Answer without keys; on this machine only.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads the models.")] = 1,
    interactions: Annotated[Path | None, typer.Option(help="CSV of the site's own interactions.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate chain, PEM: speak https.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Serve drafts over HTTP: API, page and CDS Hooks.

    Without --model a demo baseline is made from synthetic patients. The first start with an empty store makes a key:
    a terminal shows it, once; else a file beside the store holds it. SIGTERM ends the service once what runs is done.
    """
    import sys

    from etl.errors import ConfigError
    from serving.settings import read_settings
    from serving.starting.fleet import Elsewhere, Fleet
    from serving.starting.start import start

    elsewhere = None
    if endpoint is not None:
        elsewhere = Elsewhere(endpoint, tuple(endpoint_model or ()), send, affirmation, timeout)
    elif endpoint_model:
        raise ConfigError("--endpoint-model is what --endpoint calls the model; give --endpoint too")
    start(
        Fleet(tuple(model or ()), base, data, k, elsewhere),
        read_settings(settings, set_ or (), dev=dev or None, interactions=interactions, store=store),
        (host, port),
        workers,
        (ssl_certfile, ssl_keyfile),
        say=lambda line: print(line, flush=True),
        told=lambda step: print(step, file=sys.stderr, flush=True),
        terminal=sys.stdout.isatty(),
    )
