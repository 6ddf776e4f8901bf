"""Whatever /openapi.json promises is kept: any request that fits it, and any that does not, gets a declared answer."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from serving.access.keys import make_key
from serving.access.principal import Role
from serving.app import create_app
from serving.baselines.service import load_baseline
from serving.settings import Settings
from serving.starting.process import listen
from serving.store.engine import open_store
from serving.store.keys import Keys

CASES = int(os.environ.get("RXDRAFT_SCHEMATHESIS_CASES", "3"))
"""For each operation, that fit and that do not."""


@pytest.fixture(scope="module")
def service(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real server's URL, and a key to everything but the command line."""
    recommender, most = load_baseline("popularity", tiny_cohort), 10**6
    limits = {"drafts_per_minute": most, "calls_per_minute": most, "sign_ins_per_minute": most, "queue_limit": most}
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        store = open_store(f"sqlite:///{tmp_path_factory.mktemp('openapi') / 'store.sqlite3'}")
        key, kept = make_key("test", [Role.CLINICIAN, Role.EVALUATOR])
        Keys(store).add(kept)
        app = create_app(lambda: recommender, Settings(public_url=url, drain_grace_seconds=0, **limits), store)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not (server.started and app.state.service.search.ready):
            time.sleep(0.01)
        yield url, key
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_answer_is_one_that_the_schema_declares(service: tuple[str, str], mode: GenerationMode) -> None:
    url, key = service
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():

        @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            # A key that fits and came with another body before is refused, as it must be.
            fresh = {"Idempotency-Key": uuid.uuid4().hex} if mode is GenerationMode.POSITIVE else {}
            case.call_and_validate(headers={"Authorization": f"Bearer {key}", **fresh})

        with suppress(Unsatisfiable):  # nothing about a call without parameters can fail to fit
            check()
