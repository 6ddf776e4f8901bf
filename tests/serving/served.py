"""The service in process, with a store of its own, for one test client."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from serving.drafting.engines import Engines
    from serving.recommendation import Drafter

STORED = {"draft_id", "state", "version", "created_at", "facts"}
"""What a draft has from the store; the rest is what was drafted."""


@contextmanager
def served(
    models: Engines | Callable[[], Drafter], *, wait: bool = True, store_url: str | None = None, **settings: Any
) -> Iterator[TestClient]:
    """Lend a client of a service on loopback that asks for no key; `settings` go over what tests need.

    Args:
        models: as of `create_app`.
        wait: until drafts can be made.
        store_url: of a store that is there already; None: an empty one.
    """
    from serving.app import create_app
    from serving.settings import Settings
    from serving.store.engine import open_store

    given = {"dev": True, "drafts_per_minute": 10**6, "calls_per_minute": 10**6, **settings}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(store_url or f"sqlite:///{Path(folder) / 'store.sqlite3'}")
        app = create_app(models, Settings(**given), store)
        with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
            if wait:
                wait_ready(client)
            yield client
        store.close()


def wait_ready(client: TestClient) -> None:
    """Wait until drafts can be made and codes found."""
    for _ in range(1000):
        if client.get("/readyz").status_code == 200 and client.app.state.service.search.ready:  # type: ignore[attr-defined]
            return
        time.sleep(0.01)
    raise AssertionError("not ready within 10 s")


def drafted(draft: dict[str, Any]) -> dict[str, Any]:
    """Return a draft without what the store gave it."""
    return {name: value for name, value in draft.items() if name not in STORED}
