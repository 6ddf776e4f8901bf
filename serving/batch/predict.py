"""`rxdraft predict`, all of it in order: who drafts, for what, where; and what decides the drafts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from etl.artefacts import sha256_file
from etl.errors import ConfigError
from etl.outside.ask import Limits
from etl.outside.firewall import Passage, Provenance, affirmation_form, let_pass
from serving.baselines.service import baseline_name
from serving.batch import parts
from serving.batch.job import Job, plan
from serving.batch.parts import Counts
from serving.loading import loader
from serving.remote.engine import Way


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An engine that writes the lists.

    Attributes:
        url: of an OpenAI-compatible server; model: what it calls the checkpoint.
        way: what it is sent; None: ids where it takes them.
        open_data: whether the admissions are under no use agreement; affirmation: that they may go there.
    """

    url: str
    model: str
    way: Way | None = None
    open_data: bool = False
    affirmation: Path | None = None
    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout_seconds: float = 120
    tries: int = 6


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do; the options of the command."""

    model: Path
    admissions: Path
    out: Path
    identifier: str | None = None
    base: str | None = None
    data: Path | None = None
    k: int | None = None
    all_probabilities: bool = False
    ray: str | None = None
    workers: int | None = None
    elsewhere: Elsewhere | None = None


def predict(settings: Settings, told: Callable[[int, int], None]) -> Counts:
    """Draft a list for every row of a file.

    Args:
        settings: of the run.
        told: told (rows done, all).

    Raises:
        ConfigError: options or data do not fit, data may not go there, or an engine or a cluster does not answer.
        ContractError: there is no such checkpoint or cohort.
    """
    _check(settings)
    if settings.elsewhere is not None:
        return _predict_elsewhere(settings, settings.elsewhere, told)
    load = loader(settings.model, settings.base, settings.data, settings.k)
    job = _plan(settings, {})
    if (counts := parts.standing(job)) is not None:
        told(job.rows, job.rows)
        return counts
    if settings.ray is None:
        return parts.predict(job, load(), told)
    from serving.batch.cluster import Model, predict_on_ray

    if baseline_name(settings.model) is not None:
        load()  # fitted once, before every worker would
    model = Model(settings.model, settings.base, settings.data, settings.k)
    return predict_on_ray(job, model, settings.ray, settings.workers, told)


def _predict_elsewhere(settings: Settings, server: Elsewhere, told: Callable[[int, int], None]) -> Counts:
    from serving.remote.recommender import RemoteRecommender, Server, checked_manifest

    checked_manifest(settings.model)
    url = urlsplit(server.url)
    job = _plan(settings, {"endpoint": url.netloc + url.path, "served_as": server.model, "sent": server.way})
    if (counts := parts.standing(job)) is not None:
        told(job.rows, job.rows)
        return counts
    limits = Limits(server.concurrency, server.requests_per_minute, tries=server.tries)
    asked = Server(
        *(_passage(settings, server), server.model, server.way, limits, server.timeout_seconds),
        ledger=job.folder / "answers.sqlite",
    )
    recommender = RemoteRecommender(settings.model, asked, settings.base)
    rows_done = 0

    def part_done(done: int, total: int) -> None:
        nonlocal rows_done
        rows_done = done
        told(done, total)

    recommender.answered = lambda answers: told(rows_done + answers, job.rows)  # within a part: an answer takes long
    try:
        return parts.predict(job, recommender, part_done)
    finally:
        recommender.close()


def rehearse(settings: Settings) -> str:
    """Say what a run would send, and where. Sends nothing, writes nothing."""
    _check(settings)
    server = settings.elsewhere
    if server is None:
        raise ConfigError("--dry-run says what would be sent to --endpoint; there is none")
    rows = _plan(settings, {}).rows
    try:
        passage = _passage(settings, server)
        allowed = [f"endpoint {server.url}: {'this machine' if passage.local else 'another machine, allowed'}"]
    except ConfigError as refusal:
        form = affirmation_form(server.url, settings.admissions).splitlines()
        allowed = [f"refused: {refusal}", "an affirmation to fill in and sign:", *(f"  {line}" for line in form)]
    return "\n".join([f"{rows:,} admissions, a request each, {_provenance(server)}", *allowed, "nothing was sent"])


def _provenance(server: Elsewhere) -> Provenance:
    return Provenance.DEMO if server.open_data else Provenance.CREDENTIALED


def _passage(settings: Settings, server: Elsewhere) -> Passage:
    return let_pass(_provenance(server), server.url, settings.admissions, server.affirmation)


def _check(settings: Settings) -> None:
    """See that the options belong together.

    Raises:
        ConfigError: they do not.
    """
    if settings.workers is not None and settings.ray is None:
        raise ConfigError("--workers is how many models --ray has at work; give --ray auto, or leave it out")
    if settings.elsewhere is None:
        return
    if baseline_name(settings.model) is not None:
        raise ConfigError(f"{settings.model} needs no engine; leave --endpoint out")
    wrong = {"--ray": settings.ray, "--k": settings.k, "--data": settings.data}
    wrong["--all-probabilities"] = settings.all_probabilities or None
    if given := [option for option, value in wrong.items() if value is not None]:
        raise ConfigError(f"an engine writes one list each, and is asked from here; leave out {', '.join(given)}")


def _plan(settings: Settings, model: dict[str, Any]) -> Job:
    """Plan the job; what decides its drafts is the checkpoint with its calibration, or the baseline with its cohort."""
    name = baseline_name(settings.model)
    named = settings.model / "manifest.json" if name is None else (settings.data or Path()) / "cohort.json"
    decides = {"baseline": name, "sha256": sha256_file(named), "k": settings.k, **model}
    return plan(settings.admissions, settings.out, settings.identifier, decides, chances=settings.all_probabilities)
