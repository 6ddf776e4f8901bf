"""Starts the service in process and connects an EHR with the record of an invented patient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from serving.app import create_app
from serving.recommendation import Drafter
from serving.settings import CdsClient, Settings
from serving.store.engine import open_store
from tests.serving.cds.ehr import ISSUER, Ehr, make_key
from tests.serving.cds.fhir_server import FhirServer, patient_record

URL = "http://127.0.0.1:8000"


@contextmanager
def connected(load: Callable[[], Drafter], folder: Path, **given: Any) -> Iterator[Ehr]:
    """Yield an EHR that has asked for the services; `given` are settings."""
    key, jwks = make_key(folder)
    client = CdsClient(issuer=ISSUER, jwks_file=jwks)
    settings = Settings(**{"public_url": URL, "cds_clients": (client,), "drain_grace_seconds": 0, **given})
    store = open_store(f"sqlite:///{folder}/rx.sqlite3")
    app = create_app(load, settings, store)
    with TestClient(app, base_url=URL, raise_server_exceptions=False) as http:
        ehr = Ehr(http, URL, FhirServer(patient_record()), key)
        ehr.discover()
        yield ehr
    store.close()


def wait_ready(ehr: Ehr) -> None:
    """Wait until the model is loaded."""
    for _ in range(500):
        if ehr.http.get("/readyz").status_code == 200:
            return
        time.sleep(0.02)
    raise AssertionError("not ready within 10 s")


def drafted(ehr: Ehr, **extra: Any) -> dict[str, Any]:
    """Open the patient until the draft is there; returns its card."""
    for _ in range(500):
        [card] = ehr.fire("patient-view", **extra).json()["cards"]
        if "suggestions" in card:
            return dict(card)
        time.sleep(0.02)
    raise AssertionError("no draft within 10 s")
