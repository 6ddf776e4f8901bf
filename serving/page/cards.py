"""A served model's card: what its checkpoint records of itself, and a blank where it records nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from serving.schemas.identity import BaselineIdentity, ModelIdentity, RemoteIdentity

if TYPE_CHECKING:
    from serving.drafting.engines import Engine, Engines

Say = Callable[..., str]
Facts = Iterator[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Card:
    """One model, as /about/model shows it.

    Attributes:
        name: as drafts name it.
        state: as GET /v1/models says it.
        default: whether it drafts where no model is asked for.
        facts: fields in their order, and what is recorded; None: nothing is.
    """

    name: str
    state: str
    default: bool
    facts: tuple[tuple[str, str | None], ...]


def cards(engines: Engines, say: Say) -> list[Card]:
    """Return the cards of all served models.

    Args:
        engines: whose models.
        say: gives words of the reader's language for a key of the catalogue.
    """
    return [
        Card(engine.name, engine.state, engine.name == engines.default, tuple(_facts(engine, engines.demo, say)))
        for engine in engines.all()
    ]


def _facts(engine: Engine, demo: bool, say: Say) -> Facts:
    if engine.drafter is None:
        return
    identity, manifest = engine.drafter.identity, getattr(engine.drafter, "manifest", None)
    if not isinstance(identity, ModelIdentity):
        yield from _of_baseline(identity, demo, say)
        return
    yield "base", PurePath(identity.base).name  # a path would tell how the server is laid out
    if isinstance(identity, RemoteIdentity):
        yield "served", f"{identity.served_as} ({identity.endpoint})"
    yield from _training(manifest, say)
    yield from _quality(identity, manifest, say)
    for name in ("step", "rank", "objective", "prompt_version", "adapter_sha256", "formulary_sha256"):
        yield name, str(getattr(identity, name))


def _of_baseline(identity: BaselineIdentity, demo: bool, say: Say) -> Facts:
    yield "name", identity.name
    yield "what", say(f"model.what_{identity.name.rpartition(':')[2]}")
    yield "data", say("model.synthetic_data") if demo else None
    yield "calibration", say("model.uncalibrated")
    yield "cohort_sha256", identity.cohort_sha256
    yield "formulary_sha256", identity.formulary_sha256


def _training(manifest: Any, say: Say) -> Facts:
    """Where and when it learnt. MIMIC-IV's dates are shifted, so that a cohort has none of its own."""
    open_data = None if manifest is None else (manifest.cohort_settings or {}).get("open_data")
    yield "data", None if open_data is None else say("model.open_data" if open_data else "model.closed_data")
    yield "data_dates", None
    yield "samples", None if manifest is None else f"{manifest.samples:,}"
    yield "cohort_sha256", None if manifest is None else manifest.cohort_sha256
    yield "trained", None
    yield "method", None if manifest is None else manifest.method


def _quality(identity: ModelIdentity, manifest: Any, say: Say) -> Facts:
    on = identity.calibrated_on
    yield "calibration", say("model.uncalibrated") if on is None else say("model.calibrated", n=f"{on:,}")
    yield "calibration_sha256", identity.calibration_sha256
    yield "evaluation", None if manifest is None else _figures(manifest.calibration, say)


def _figures(calibration: Mapping[str, Any] | None, say: Say) -> str | None:
    """Put the calibration's own figures into words; None: there is none."""
    fitted = (calibration or {}).get("fitted") or {}
    after = fitted.get("after") or {}
    if not {"f1", "brier", "ece"} <= after.keys():
        return None
    rounded = {name: f"{after[name]:.3f}" for name in ("f1", "brier", "ece")}
    return say("model.evaluated", n=f"{fitted.get('admissions', 0):,}", **rounded)
