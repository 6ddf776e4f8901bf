"""What the tests of the service stand on: checkpoints that answer with drugs, loaded once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from serving.recommenders.lists import Recommender
    from tests.serving.store.postgres import Existing, Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def checkpoint(taught_runs: Path) -> Path:
    """One of them."""
    return taught_runs / "rank-4" / "step-000004"


@pytest.fixture(scope="session")
def recommender(checkpoint: Path) -> Recommender:
    """That one, loaded."""
    from serving.recommenders.lists import load_recommenders

    return load_recommenders([checkpoint])[0]


@pytest.fixture(scope="session")
def body(tiny_cohort: Path, recommender: Recommender) -> dict[str, Any]:
    """An admission of the test split that gets a list of drugs, as the API takes it."""
    from etl.cohort import read_samples, to_admission

    facts = ("age", "sex", "height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg", "previous_drugs")
    samples = list(read_samples(tiny_cohort, "test").iter_rows(named=True))
    for sample, drafted in zip(samples, recommender.recommend([to_admission(s) for s in samples]), strict=True):
        if drafted.answer.drugs:
            coded = [{"icd_code": d["icd_code"], "icd_version": d["icd_version"]} for d in sample["diagnoses"]]
            return {"diagnoses": coded, **{name: sample[name] for name in facts}}
    raise AssertionError("the taught model gives no list at all; teach it for more steps")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; not longer than a module, since Playwright's event loop runs in this thread and no other may then."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server | Existing]:
    """A real PostgreSQL server: the one of RXDRAFT_TEST_POSTGRES_URL, else one of this session's own."""
    from tests.serving.store.postgres import Existing, NoPostgresError, server

    if url := os.environ.get("RXDRAFT_TEST_POSTGRES_URL"):
        yield Existing(url)
        return
    try:
        lent = server()
        running = lent.__enter__()
    except NoPostgresError as error:
        pytest.skip(f"no PostgreSQL to test against: {error}")
    yield running
    lent.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind a store can be."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite3'}"
    return request.getfixturevalue("postgres").empty_database()
