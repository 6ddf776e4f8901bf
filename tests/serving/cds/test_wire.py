"""`rxdraft serve` as a process, called over HTTP by an EHR, and by a browser that came from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from tests.serving.cds.ehr import ISSUER, KID, Ehr, make_key, order, orders
from tests.serving.cds.fhir_server import FhirServer, patient_record, served
from tests.serving.cds.hospital import drafted, wait_ready


@dataclass(frozen=True, slots=True)
class Site:
    """A running service, and an EHR with its FHIR server on loopback."""

    url: str
    fhir_url: str
    ehr: Ehr
    log: Path


@pytest.fixture(scope="module")
def site(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    key, jwks = make_key(folder)
    fhir, url = FhirServer(patient_record()), f"http://127.0.0.1:{free_port()}"
    with served(fhir) as fhir_url, httpx2.Client(base_url=url, timeout=30) as http:
        settings = folder / "settings.toml"
        settings.write_text(
            f'public_url = "{url}"\ncors_origins = ["{fhir_url}"]\ndrain_grace_seconds = 0\n'
            f'[[cds_clients]]\nissuer = "{ISSUER}"\njwks_file = "{jwks}"\n'
        )
        model, port = ("--model", "baseline:popularity", "--data", str(tiny_cohort)), url.rpartition(":")[2]
        kept = ("--settings", str(settings), "--store", str(folder / "rx.sqlite3"))
        command = [sys.executable, "-m", "rxdraft", "serve", *model, "--port", port, *kept]
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment(folder))
        try:
            wait_open(url, process, log)
            ehr = Ehr(http, url, fhir, key)
            wait_ready(ehr)
            yield Site(url, fhir_url, ehr, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_open(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            httpx2.get(f"{url}/healthz")
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


def test_an_ehr_gets_cards_clicks_a_suggestion_and_tells(site: Site) -> None:
    ehr = site.ehr
    assert len(ehr.discover()) == 3
    card = drafted(ehr)
    before = len(ehr.fhir.resources)
    answer = ehr.click("patient-view", card, card["suggestions"][0])
    assert (answer.status_code, answer.json()) == (200, {})
    assert ehr.fhir.resources[before]["status"] == "draft"


def test_orders_are_screened_over_http(site: Site) -> None:
    site.ehr.discover()
    [card] = site.ehr.fire("order-sign", orders(order("Amoxicillin"))).json()["cards"]
    assert card["indicator"] == "critical"


def test_a_token_is_good_for_one_call(site: Site) -> None:
    url = f"{site.url}/cds-services"
    token = site.ehr.signed(url)
    assert [site.ehr.http.get(url, headers=token).status_code for _ in range(2)] == [200, 401]


def test_the_link_of_a_card_leads_to_a_page_that_asks_who_one_is(site: Site) -> None:
    site.ehr.discover()
    page = httpx2.get(drafted(site.ehr)["links"][0]["url"], follow_redirects=True)
    assert page.status_code == 200
    assert "/sign-in" in str(page.url)


def test_a_browser_from_a_listed_origin_does_all_of_it(site: Site, browser: Any) -> None:
    done = in_browser(browser, site, site.fhir_url)
    assert done["services"] == 3
    assert done["created"] == 201
    assert done["feedback"] == {"status": 200, "body": {}}
    assert site.ehr.fhir.resources[-1]["intent"] == "proposal"


def test_a_browser_from_another_origin_is_kept_out(site: Site, browser: Any) -> None:
    with served(FhirServer([])) as elsewhere, pytest.raises(Exception, match="Failed to fetch"):
        in_browser(browser, site, elsewhere)


def in_browser(browser: Any, site: Site, origin: str) -> Any:
    known = jwt.algorithms.ECAlgorithm.to_jwk(site.ehr.key, as_dict=True)
    given = {"service": site.url, "fhir": site.fhir_url, "issuer": ISSUER, "kid": KID}
    script = (Path(__file__).parent / "browser_ehr.js").read_text("utf-8")
    # a comment before the function would make it a statement
    function = script[script.index("async (") :]
    with browser.new_page() as page:
        page.goto(f"{origin}/metadata")
        return page.evaluate(function, {**given, "privateKey": json.loads(json.dumps(known))})


def test_nothing_of_the_patient_stands_in_the_log(site: Site) -> None:
    log = site.log.read_text()
    assert "cards" in log
    for word in ("Amoxicillin", "Penicillin", "I50.9", "1950-01-01", "Practitioner/abc"):
        assert word not in log
