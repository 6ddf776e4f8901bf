"""What may go where: decided before a client exists."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ConfigError
from etl.outside.firewall import (
    FIELDS,
    Provenance,
    affirmation_form,
    is_local,
    let_pass,
    read_provenance,
)

REMOTE = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.0.0.1:8000/v1", "http://127.8.9.1/v1", "http://[::1]:1/v1"]
)
def test_this_machine_is_local(url: str) -> None:
    assert is_local(url)


@pytest.mark.parametrize(
    "url",
    [
        REMOTE,
        "http://192.168.1.7:8001/v1",
        "http://0.0.0.0:8001/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1@example.org/v1",
        "http://127.0.0.1:80@example.org/v1",
        "http://127.0.0.1\\@example.org/v1",
        "http://example.org\\@127.0.0.1/v1",
        "http://user@127.0.0.1/v1",
        "http://example.org#@127.0.0.1/v1",
        "ftp://127.0.0.1/v1",
        "http://[::1/v1",
        "http://local\thost/v1",
        "http://127.0.0.1 /v1",
        "http://127.0.0.1:99999/v1",
        "//127.0.0.1/v1",
        "127.0.0.1/v1",
        "",
    ],
)
def test_everything_else_is_elsewhere(url: str) -> None:
    assert not is_local(url)


def test_data_are_credentialed_unless_declared_open(tiny_cohort: Path, open_cohort: Path) -> None:
    assert read_provenance(tiny_cohort) is Provenance.CREDENTIALED
    assert read_provenance(open_cohort) is Provenance.DEMO


@pytest.mark.parametrize("said", [None, "true", 1])
def test_an_unclear_declaration_is_none(open_cohort: Path, tmp_path: Path, said: object) -> None:
    cohort = json.loads((open_cohort / "cohort.json").read_text())
    cohort["settings"]["open_data"] = said
    (tmp_path / "cohort.json").write_text(json.dumps({**cohort, "outputs": {}}))
    assert read_provenance(tmp_path) is Provenance.CREDENTIALED


@pytest.mark.parametrize("url", ["", "api.openai.com/v1", "http:///v1", "http://a\\@127.0.0.1/v1", "file:///etc"])
def test_what_is_no_url_is_one_line(url: str, open_cohort: Path) -> None:
    with pytest.raises(ConfigError, match="no http or https URL"):
        let_pass(Provenance.DEMO, url, open_cohort, None)


def test_credentialed_data_stay_here_without_an_affirmation(tiny_cohort: Path) -> None:
    with pytest.raises(ConfigError, match=r"api\.openai\.com .*--affirmation"):
        let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, None)
    assert let_pass(Provenance.CREDENTIALED, "http://127.0.0.1:1/v1", tiny_cohort, None).local


def test_open_data_may_go_anywhere(open_cohort: Path) -> None:
    assert not let_pass(Provenance.DEMO, REMOTE, open_cohort, None).local


def signed(cohort: Path, path: Path, **changed: Any) -> Path:
    import tomllib

    today = datetime.now(UTC).date()
    said = {
        **tomllib.loads(affirmation_form(REMOTE, cohort)),
        "person": "A. Person",
        "signature": "A. Person",
        "date": str(today),
        "zero_retention": "contract, section 4",
        "no_human_review": "contract, section 5",
        "scope": "judging drafts of the test split",
        "expires": str(today + timedelta(days=1)),
        **changed,
    }
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items() if value is not None))
    return path


def test_a_signed_affirmation_lets_them_go_and_is_named(tiny_cohort: Path, tmp_path: Path) -> None:
    passage = let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, signed(tiny_cohort, tmp_path / "a.toml"))
    assert passage.affirmation_sha256 is not None


def test_an_affirmation_for_a_file_holds_for_that_content_alone(tmp_path: Path) -> None:
    data = tmp_path / "seeds.jsonl"
    data.write_text("one")
    affirmation = signed(data, tmp_path / "a.toml")
    assert not let_pass(Provenance.CREDENTIALED, REMOTE, data, affirmation).local
    data.write_text("another")
    with pytest.raises(ConfigError, match="data_sha256 is another"):
        let_pass(Provenance.CREDENTIALED, REMOTE, data, affirmation)


@pytest.mark.parametrize("field", FIELDS)
def test_an_affirmation_lacking_any_field_lets_nothing_go(field: str, tiny_cohort: Path, tmp_path: Path) -> None:
    for value in ("", "  ", None):
        path = signed(tiny_cohort, tmp_path / "a.toml", **{field: value})
        with pytest.raises(ConfigError, match=field):
            let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, path)


YESTERDAY, TOMORROW = (str(datetime.now(UTC).date() + timedelta(days=days)) for days in (-1, 1))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"endpoint": "https://api.openai.com/v2"}, "endpoint is another"),
        ({"endpoint": "https://api.openai.com.example.org/v1"}, "endpoint is another"),
        ({"data_sha256": "0" * 64}, "data_sha256 is another"),
        ({"statement": "I think it is fine."}, "statement was changed"),
        ({"signature": "B. Person"}, "signature is not"),
        ({"expires": YESTERDAY}, "expires is no day"),
        ({"expires": "soon"}, "expires is no day"),
        ({"date": TOMORROW}, "date is no day"),
    ],
)
def test_an_affirmation_of_something_else_lets_nothing_go(
    changed: dict[str, str], problem: str, tiny_cohort: Path, tmp_path: Path
) -> None:
    path = signed(tiny_cohort, tmp_path / "a.toml", **changed)
    with pytest.raises(ConfigError, match=problem):
        let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, path)


def test_all_problems_are_named_at_once(tiny_cohort: Path, tmp_path: Path) -> None:
    path = signed(tiny_cohort, tmp_path / "a.toml", person="", scope="", expires=YESTERDAY)
    with pytest.raises(ConfigError, match=r"person, scope missing.*signature.*expires"):
        let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"person = ", b"[a"])
def test_what_is_no_affirmation_lets_nothing_go(content: bytes, tiny_cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="does not let"):
        let_pass(Provenance.CREDENTIALED, REMOTE, tiny_cohort, path)
