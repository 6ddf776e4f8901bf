"""What Prometheus reads, and the small functions that others count with.

Labels are route templates, methods, status classes, codes, rule ids and names of models: nothing that a caller writes.
Several processes share a folder, `PROMETHEUS_MULTIPROC_DIR`, set before prometheus_client is first imported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

_requests = Counter("rxdraft_requests", "Answers, by route template.", ["route", "method", "status"])
_request_seconds = Histogram("rxdraft_request_seconds", "Until the answer's head.", ["route"], buckets=_SECONDS)
_drafts = Counter("rxdraft_drafts", "Drafts asked for, by how that ended.", ["outcome"])
_draft_seconds = Histogram("rxdraft_draft_seconds", "From being asked for to recorded.", buckets=_SECONDS)
_waiting = Gauge("rxdraft_queue_waiting", "Drafts waiting in the store.", multiprocess_mode="mostrecent")
_reviews = Counter("rxdraft_reviews", "Decisions on drugs.", ["decision"])
_alerts = Counter("rxdraft_alerts", "Alerts answered.", ["rule_id", "tier"])
_overrides = Counter("rxdraft_overrides", "Alerts whose drug was accepted all the same.", ["rule_id"])
_store_errors = Counter("rxdraft_store_errors", "Failures of the store.")
_refusals = Counter("rxdraft_refusals", "Callers refused, by reason code.", ["reason"])
_dropped_keys = Counter("rxdraft_log_keys_dropped", "Keys of log lines that are not on the list.")
_engines = Gauge(
    "rxdraft_engine", "1 for the state that an engine is in.", ["model", "state"], multiprocess_mode="livemax"
)
ENGINE_STATES = ("loading", "ready", "failed", "open")


def answered(route: str, method: str, status: int, seconds: float) -> None:
    """Count an answer; `route` is a template such as /v1/drafts/{draft_id}."""
    _requests.labels(route, method, f"{status // 100}xx").inc()
    _request_seconds.labels(route).observe(seconds)


def draft_made(outcome: str, seconds: float) -> None:
    """Count a draft: outcome is a state or a problem code."""
    _drafts.labels(outcome).inc()
    _draft_seconds.observe(seconds)


def set_queue_waiting(drafts: int) -> None:
    """Say how many drafts wait in the store."""
    _waiting.set(drafts)


def review_made(decision: str) -> None:
    """Count a review."""
    _reviews.labels(decision).inc()


def alert_shown(rule_id: str, tier: str) -> None:
    """Count an alert on a draft or card that was answered."""
    _alerts.labels(rule_id, tier).inc()


def alert_overridden(rule_id: str) -> None:
    """Count an alert whose drug was accepted all the same."""
    _overrides.labels(rule_id).inc()


def store_failed() -> None:
    """Count a failure of the store."""
    _store_errors.inc()


def refused(reason: str) -> None:
    """Count a caller who was not let in."""
    _refusals.labels(reason).inc()


def log_keys_dropped(keys: int) -> None:
    """Count keys that did not reach a log line."""
    _dropped_keys.inc(keys)


def set_engine_state(model: str, state: str) -> None:
    """Say how an engine is: one of `ENGINE_STATES`."""
    for known in ENGINE_STATES:
        _engines.labels(model, known).set(known == state)


def exposition() -> tuple[bytes, str]:
    """Return the metrics of all of the service's processes as text, and its content type."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    _forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of processes that are gone, killed ones too; their counters stay counted."""
    for file in folder.glob("gauge_live*_*.db"):
        if (match := re.search(r"_(\d+)\.db$", file.name)) and not Path(f"/proc/{match[1]}").exists():
            file.unlink(missing_ok=True)
