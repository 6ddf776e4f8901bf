"""A single careful look at a server from outside, and how long until it is as it should be."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from serving_load.scene import Scene


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer; status 0: there was none."""

    status: int
    body: bytes
    seconds: float
    retry_after: str | None = None

    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The problem's code."""
        try:
            told = self.json()
        except ValueError:
            return None
        return told.get("code") if isinstance(told, dict) else None


class Probe:
    """One clinician of a scene, who asks once and tells."""

    def __init__(self, scene: Scene) -> None:
        self._url, self._key = scene.server.url, scene.keys[0]
        self._body = scene.scenery.admissions[0]

    def draft(self, **headers: str) -> Seen:
        """Ask for a draft, under a new Idempotency-Key."""
        return self.ask("POST /v1/drafts", self._body, **{"Idempotency-Key": str(uuid.uuid4()), **headers})

    def seconds_of_a_draft(self) -> float:
        """Return how long a draft takes, infinity where there is none."""
        seen = self.draft()
        return seen.seconds if seen.status == 200 else float("inf")

    def ask(self, route: str, body: Any = None, **headers: str) -> Seen:
        """Make one call, given as "METHOD PATH"."""
        method, _, path = route.partition(" ")
        told = {"Authorization": f"Bearer {self._key}", **headers}
        began = time.monotonic()
        try:
            answer = httpx2.request(method, f"{self._url}{path}", json=body, headers=told, timeout=90)
        except httpx2.TransportError:
            return Seen(0, b"", time.monotonic() - began)
        return Seen(answer.status_code, answer.content, time.monotonic() - began, answer.headers.get("Retry-After"))


def seconds_until(so: Callable[[], bool], most: float) -> float | None:
    """Return how long it took until something was so, None where it did not become so in time."""
    began = time.monotonic()
    while time.monotonic() - began < most:
        if so():
            return round(time.monotonic() - began, 2)
        time.sleep(0.2)
    return None
