"""The whole service with a quick baseline behind it, and an EHR that calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from serving.recommendation import Drafter
from tests.serving.cds.ehr import Ehr
from tests.serving.cds.fhir_server import patient_record
from tests.serving.cds.hospital import connected, wait_ready

Connect = Callable[..., Ehr]


@pytest.fixture(scope="session")
def baseline(tiny_cohort: Path) -> Drafter:
    """What drafts: fitted in moments, answers in milliseconds."""
    from serving.baselines.service import load_baseline

    return load_baseline("popularity", tiny_cohort)


@pytest.fixture
def connect(baseline: Drafter, tmp_path: Path) -> Iterator[Connect]:
    """Return what starts a service with settings of its own, and connects an EHR to it."""
    with ExitStack() as stack:

        def start(load: Callable[[], Drafter] = lambda: baseline, **given: Any) -> Ehr:
            return stack.enter_context(connected(load, tmp_path, **given))

        yield start


@pytest.fixture(scope="session")
def hospital(baseline: Drafter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ehr]:
    """An EHR on a service that is ready, for all tests that leave nothing behind which others would meet."""
    with connected(lambda: baseline, tmp_path_factory.mktemp("cds"), calls_per_minute=1_000_000) as ehr:
        wait_ready(ehr)
        yield ehr


@pytest.fixture
def ehr(hospital: Ehr) -> Ehr:
    """That one, with the record of an invented patient as it was at first."""
    hospital.fhir.resources[:] = patient_record()
    return hospital
