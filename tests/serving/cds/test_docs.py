"""The examples of docs/cds_hooks.md, executed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.cds.discovery import QUERIES, SERVICES
from serving.settings import read_settings
from tests.serving.cds.ehr import Ehr
from tests.serving.cds.hospital import URL

TEXT = (Path(__file__).parents[3] / "docs" / "cds_hooks.md").read_text("utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def holds(actual: Any, wanted: Any) -> bool:
    """Tell whether an answer has everything that an example shows."""
    if isinstance(wanted, dict):
        return all(key in actual and holds(actual[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(actual) == len(wanted) and all(map(holds, actual, wanted))
    return bool(actual == wanted)


@pytest.fixture
def authorization(ehr: Ehr) -> Callable[[str], dict[str, str]]:
    """Return the header that the document's function makes."""
    made: dict[str, Any] = {}
    exec(examples("python")[0], made)  # noqa: S102
    return lambda url: {"Authorization": made["authorization"](url, ehr.key)}


def test_the_settings_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(examples("toml")[0])
    settings = read_settings(path)
    assert settings.cds_clients[0].issuer == "https://ehr.example.org"
    assert set(settings.cds_clients[0].services or ()) <= set(SERVICES)


def test_the_call_gives_the_answer_and_the_feedback_is_taken(
    ehr: Ehr, authorization: Callable[[str], dict[str, str]]
) -> None:
    call, answer, feedback = map(json.loads, examples("json"))
    url = f"{URL}/cds-services/rx-safety-order-sign"
    said = ehr.http.post(url, json=call, headers=authorization(url)).json()
    wanted = json.loads(json.dumps(answer).replace("https://rx.example.org", URL))
    assert holds(said, wanted), said
    told = ehr.http.post(f"{url}/feedback", json=feedback, headers=authorization(f"{url}/feedback"))
    assert (told.status_code, told.json()) == (200, {})


def test_every_service_and_every_prefetch_key_is_described() -> None:
    assert all(f"`{name}`" in TEXT for name in (*SERVICES, *QUERIES))
