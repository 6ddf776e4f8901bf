"""The subcommands `recommend`, `predict` and `serve`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etl.domain import Admission
    from serving.recommendation import Drafter, Recommendation

log = logging.getLogger(__name__)

_MODEL = Annotated[
    Path,
    typer.Option(help="Checkpoint made by `rxdraft train`: the folder with manifest.json. Or baseline:NAME."),
]
_DATA = Annotated[Path | None, typer.Option(help="Cohort that a baseline learns from: folder of `rxdraft etl`.")]
_BASE = Annotated[str | None, typer.Option(help="Where the base lies now, if not where training had it.")]


def recommend(
    model: _MODEL,
    json: Annotated[Path, typer.Option(help="One admission, as POST /v1/drafts takes it.", allow_dash=True)],
    base: _BASE = None,
    data: _DATA = None,
    raw: Annotated[bool, typer.Option("--raw", help="What the model writes, not held to the formulary.")] = False,
) -> None:
    """Draft a list for one admission, without a server."""
    import sys
    import uuid

    from pydantic import ValidationError

    from etl.errors import ConfigError
    from serving.schemas import DraftRequest, describe_errors, make_draft

    if str(json) != "-" and not json.is_file():
        raise ConfigError(f"{json} is no file; give one admission as JSON")
    body = sys.stdin.buffer.read() if str(json) == "-" else json.read_bytes()
    try:
        request = DraftRequest.model_validate_json(body)
    except ValidationError as error:
        places = "; ".join(f"{wrong['at']}: {wrong['kind']}" for wrong in describe_errors(error.errors()))
        raise ConfigError(f"{json} is no admission: {places}") from None

    recommender = _loader(model, base, data)()
    admission = request.to_admission(recommender.vocabulary)
    [recommendation] = _raw(recommender, admission) if raw else recommender.recommend([admission])
    print(make_draft(str(uuid.uuid4()), admission, recommendation, recommender).model_dump_json(indent=2))


def predict(
    model: _MODEL,
    admissions: Annotated[Path, typer.Option(help="Parquet, a row an admission, its columns the fields of the API.")],
    out: Annotated[Path, typer.Option(help="Parquet to write, a row for each row.")],
    id_: Annotated[str | None, typer.Option("--id", help="Column to copy into --out, such as hadm_id.")] = None,
    base: _BASE = None,
    data: _DATA = None,
) -> None:
    """Draft a list for every admission of a file; a killed run goes on where it was.

    The answers are the service's. A row that fits no request gets an error instead, and the exit status is 1.
    """
    from etl.errors import ConfigError
    from etl.progress import bar

    load_model = _loader(model, base, data)
    if not admissions.is_file():
        raise ConfigError(f"{admissions} is no file; give a Parquet file of admissions")
    from serving import batch

    recommender = load_model()
    with bar("drafts") as told:
        drafted, refused = batch.predict(recommender, admissions, out, id_, lambda done, total: told(done))
    print(f"{out}: drafted {drafted:,}" + (f", refused {refused:,}: the column error says why" if refused else ""))
    if refused:
        raise typer.Exit(1)


def _raw(recommender: Drafter, admission: Admission) -> list[Recommendation]:
    from etl.errors import ConfigError
    from serving.recommender import Recommender

    if not isinstance(recommender, Recommender):
        raise ConfigError("a baseline writes nothing; leave --raw out")
    return recommender.recommend([admission], raw=True)


def serve(
    model: _MODEL,
    host: Annotated[str, typer.Option(help="Address to listen on; the service has no access control yet.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    base: _BASE = None,
    data: _DATA = None,
) -> None:
    """Answer draft requests over HTTP."""
    load_model = _loader(model, base, data)  # a wrong folder is said before a port is opened

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


def _loader(model: Path, base: str | None, data: Path | None) -> Callable[[], Drafter]:
    """Return what loads a checkpoint or fits a baseline, once it is clear that it is there.

    Raises:
        ConfigError: the options do not belong together, or there is no such baseline.
        ContractError: there is no such checkpoint or cohort.
    """
    from etl.errors import ConfigError
    from serving.baselines.service import baseline_name

    name = baseline_name(model)
    if name is not None and data is not None and base is None:
        return _baseline(name, data)
    if name is not None:
        raise ConfigError(f"{model} learns from a cohort and has no base; give --data, and no --base")
    if data is not None:
        raise ConfigError(f"{model} is no baseline, and --data is what a baseline learns from; leave it out")
    return _checkpoint(model, base)


def _baseline(name: str, cohort: Path) -> Callable[[], Drafter]:
    from etl.cohort import read_cohort
    from serving.baselines.service import load_baseline

    read_cohort(cohort)
    return lambda: load_baseline(name, cohort)


def _checkpoint(model: Path, base: str | None) -> Callable[[], Drafter]:
    from training.manifest import read_manifest

    read_manifest(model)

    def load() -> Drafter:
        from serving.recommender import load_recommenders

        return load_recommenders([model], base)[0]

    return load
