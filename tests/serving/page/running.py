"""A running service with its page: real server, store, screening and search; a baseline that can be held back."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from serving.access.keys import make_key
from serving.access.principal import Role
from serving.app import create_app
from serving.baselines.service import load_baseline
from serving.drafting.engines import Engines, Loading
from serving.recommenders.lists import load_recommenders
from serving.settings import Settings
from serving.store.engine import open_store
from serving.store.keys import Keys


class HeldDrafter:
    """A drafter that answers at once, but not while it is held."""

    def __init__(self, drafter: Any) -> None:
        self._drafter, self.free = drafter, threading.Event()
        self.free.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._drafter, name)

    async def draft(self, admission: Any, seconds: float) -> Any:
        """Draft once it is free."""
        while not self.free.is_set():
            await asyncio.sleep(0.02)
        return await self._drafter.draft(admission, seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """A service that listens.

    Attributes:
        address: without a slash at its end.
        key: of a clinician.
        evaluator: key of somebody who may read all drafts and change none.
        drafter: what its drafts come from.
    """

    address: str
    key: str
    evaluator: str
    drafter: HeldDrafter

    def post(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Call the API as the clinician's program would."""
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"} | headers
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), given)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")

    def draft(self, **facts: Any) -> dict[str, Any]:
        """Make a draft; without facts of a woman of 71 with heart failure."""
        return self.post("/v1/drafts", {**HEART_FAILURE, **facts})

    def decide(self, draft: dict[str, Any], place: int, decision: str, **more: str) -> dict[str, Any]:
        """Decide about a drug of a draft, its place counted from 0."""
        body = {"item_id": draft["drugs"][place]["item_id"], "decision": decision, "if_version": draft["version"]}
        return self.post(f"/v1/drafts/{draft['draft_id']}/reviews", body | more)

    def critical_draft(self) -> dict[str, Any]:
        """Make a draft whose second drug the patient is allergic to."""
        drug = self.draft()["drugs"][1]["drug"]
        return self.draft(allergies=[{"substance": drug}], explain=True)


HEART_FAILURE: dict[str, Any] = {
    "diagnoses": [{"icd_code": "I50.9", "icd_version": 10}, {"text": "fell from a kerb"}],
    "age": 71,
    "sex": "F",
    "current_drugs": ["warfarin"],
    "potassium_mmol_l": {"value": 5.4, "hours_ago": 6},
}


@contextmanager
def running(
    cohort: Path, folder: Path, *, model: Path | None = None, demo: bool = True, **settings: Any
) -> Iterator[Running]:
    """Run a service on loopback until the block ends.

    Args:
        cohort: what the baseline learns from.
        folder: for the store.
        model: a checkpoint in the baseline's place.
        demo: whether the page says so.
        settings: as of `Settings`.
    """
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    store = open_store(f"sqlite:///{folder / 'store.sqlite3'}")
    made = [make_key(f"Test {role.title()}", [role]) for role in (Role.CLINICIAN, Role.EVALUATOR)]
    for _, kept in made:
        Keys(store).add(kept)
    drafter = HeldDrafter(load_recommenders([model])[0] if model else load_baseline("popularity", cohort))
    engines = Engines([Loading((model.name if model else "baseline:popularity",), lambda: [drafter])], demo=demo)
    generous = {"drafts_per_minute": 10_000, "calls_per_minute": 100_000, "drain_grace_seconds": 0}
    app = create_app(engines, Settings(public_url=address, **(generous | settings)), store)
    server = uvicorn.Server(uvicorn.Config(app, port=port, access_log=False, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        _wait(lambda: server.started and engines.ready)
        yield Running(address, made[0][0], made[1][0], drafter)
    finally:
        server.should_exit = True
        thread.join(10)


def _wait(true: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError("the service does not come up")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
