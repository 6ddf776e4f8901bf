"""The subcommands `recommend` and `serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.loading import BASE, DATA, MODEL, K, loader

if TYPE_CHECKING:
    from etl.domain import Admission
    from serving.recommendation import Drafter, Recommendation

log = logging.getLogger(__name__)


def recommend(
    model: MODEL,
    json: Annotated[Path, typer.Option(help="One admission, as POST /v1/drafts takes it.", allow_dash=True)],
    base: BASE = None,
    data: DATA = None,
    k: K = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what each probability hangs on, and the cohort's evidence.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="What the model writes, not held to the formulary.")] = False,
) -> None:
    """Draft a list for one admission, without a server."""
    import sys
    import uuid

    from pydantic import ValidationError

    from etl.errors import ConfigError
    from serving.explain import explain as explained
    from serving.schemas import DraftRequest, describe_errors, make_draft

    if str(json) != "-" and not json.is_file():
        raise ConfigError(f"{json} is no file; give one admission as JSON")
    body = sys.stdin.buffer.read() if str(json) == "-" else json.read_bytes()
    try:
        request = DraftRequest.model_validate_json(body)
    except ValidationError as error:
        places = "; ".join(f"{wrong['at']}: {wrong['kind']}" for wrong in describe_errors(error.errors()))
        raise ConfigError(f"{json} is no admission: {places}") from None

    recommender = loader(model, base, data, k)()
    admission = request.to_admission(recommender.vocabulary)
    [recommendation] = _raw(recommender, admission) if raw else recommender.recommend([admission])
    why = explained(recommender, admission, recommendation) if explain or request.explain else None
    print(make_draft(str(uuid.uuid4()), admission, recommendation, recommender, why).model_dump_json(indent=2))


def _raw(recommender: Drafter, admission: Admission) -> list[Recommendation]:
    from etl.errors import ConfigError
    from serving.recommender import Recommender

    if not isinstance(recommender, Recommender):
        raise ConfigError("--raw is what a model writes, and this one scores drugs; leave it out")
    return recommender.recommend([admission], raw=True)


def serve(
    model: MODEL,
    host: Annotated[str, typer.Option(help="Address to listen on; the service has no access control yet.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    base: BASE = None,
    data: DATA = None,
    k: K = None,
) -> None:
    """Answer draft requests over HTTP."""
    load_model = loader(model, base, data, k)  # a wrong folder is said before a port is opened

    import signal
    import sys

    import uvicorn

    from serving.app import create_app

    failed: list[Exception] = []

    def load() -> Drafter:
        try:
            return load_model()
        except Exception as error:
            failed.append(error)
            server.should_exit = True
            raise

    # The access log would hold whatever a client puts into a URL.
    server = uvicorn.Server(uvicorn.Config(create_app(load), host=host, port=port, access_log=False))
    if host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("listening on %s without access control: whoever reaches this port is answered", host)
    log.info("drafts at http://%s:%d/v1/drafts, once /readyz answers 200", host, port)
    # uvicorn raises the signal again once it has shut down: to have been told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server.run()
    if failed:
        raise failed[0]
