"""The page's addresses without a browser: who is let in, what is said in which language, what is sent along."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serving.app import create_app
from serving.page.files import static_digest, static_files
from serving.page.routes import _inside
from serving.settings import Settings
from serving.store.engine import open_store

GUARDED = ["/", "/drafts", "/drafts/of-somebody", "/drafts/of-somebody/print"]
OPEN = ["/sign-in", "/about/model", "/about/rules", "/about/rules/allergy-ingredient"]


def client(folder: Path, **settings: Any) -> TestClient:
    app = create_app(
        lambda: pytest.fail("no page needs a model"), Settings(**settings), open_store(f"sqlite:///{folder}/s")
    )
    return TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1), follow_redirects=False)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Nobody has signed in; the app is not started, so no model is loaded."""
    return client(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def developer(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client(tmp_path_factory.mktemp("developer"), dev=True)


class _Markup(HTMLParser):
    """Collects what a strict policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script" and given.get("type") != "application/json"
        self.forbidden += [name for name in given if name == "style" or name.startswith("on")]
        self.forbidden += [tag] if tag == "style" else []
        source = given.get("src") or (given.get("href") if tag == "link" else None) or "/"
        self.forbidden += [] if source.startswith("/static/") or source == "/" else [source]

    def handle_data(self, data: str) -> None:
        self.forbidden += [data] if self._script and data.strip() else []

    def handle_endtag(self, tag: str) -> None:
        self._script = False


@pytest.mark.parametrize("address", GUARDED)
def test_a_stranger_is_led_to_the_sign_in_page_and_back(stranger: TestClient, address: str) -> None:
    answer = stranger.get(address)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={address}")


@pytest.mark.parametrize("address", OPEN)
def test_what_says_nothing_of_patients_is_open(stranger: TestClient, address: str) -> None:
    assert stranger.get(address).status_code == 200


@pytest.mark.parametrize("address", [*GUARDED, *OPEN[1:]])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_no_page_has_inline_scripts_styles_or_handlers(developer: TestClient, address: str, language: str) -> None:
    answer = developer.get(address, headers={"accept-language": language})
    assert answer.status_code == 200
    assert f'<html lang="{language}">' in answer.text
    assert _Markup(answer.text).forbidden == []
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")


def test_a_draft_id_is_escaped(developer: TestClient) -> None:
    answer = developer.get('/drafts/"><script>alert(1)<%2fscript>')
    assert "<script>alert" not in answer.text


@given(st.text())
def test_signing_in_never_leads_to_another_host(text: str) -> None:
    for wanted in (text, f"/{text}", f"//{text}", f"/\\{text}", f"/\t/{text}"):
        where = _inside(wanted)
        assert where.startswith("/")
        assert where[1:2] not in ("/", "\\")
        assert where.isprintable()


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [("ko-KR,ko;q=0.9,en;q=0.8", "ko"), ("fr,ko;q=0.5", "ko"), ("en-GB", "en"), ("fr", "en"), ("", "en")],
)
def test_the_browsers_language_is_spoken(stranger: TestClient, asked: str, spoken: str) -> None:
    assert f'<html lang="{spoken}">' in stranger.get("/sign-in", headers={"accept-language": asked}).text


def test_a_chosen_language_stays(tmp_path: Path) -> None:
    reader = client(tmp_path, dev=True)
    assert '<html lang="ko">' in reader.get("/?lang=ko", headers={"accept-language": "en"}).text
    assert '<html lang="ko">' in reader.get("/drafts", headers={"accept-language": "en"}).text


def test_the_deployments_language_is_the_last_resort(tmp_path: Path) -> None:
    assert '<html lang="ko">' in client(tmp_path, language="ko").get("/sign-in", headers={"accept-language": "fr"}).text


def test_files_are_kept_for_good_only_under_their_own_digest(stranger: TestClient) -> None:
    for name, file in static_files().items():
        answer = stranger.get(f"/static/{static_digest()}/{name}")
        assert (answer.content, "immutable" in answer.headers["cache-control"]) == (file.content, True)
        assert stranger.get(f"/static/older/{name}").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["page.html.jinja", "..%2Froutes.py", "en.json", "nothing.js"])
def test_no_other_file_is_sent(stranger: TestClient, name: str) -> None:
    assert stranger.get(f"/static/{static_digest()}/{name}").status_code == 404


def test_an_unknown_rule_is_said_to_be_missing(stranger: TestClient) -> None:
    assert stranger.get("/about/rules/none-such").status_code == 404


def test_every_rule_has_a_page_in_both_languages(stranger: TestClient) -> None:
    for rule in stranger.app.state.service.screener.rules():
        for language in ("en", "ko"):
            text = stranger.get(f"/about/rules/{rule.rule_id}", headers={"accept-language": language}).text
            assert rule.version in text
            assert f'<html lang="{language}">' in text


def test_no_page_stands_in_the_schema(stranger: TestClient) -> None:
    assert all(
        path.startswith(("/v1", "/cds", "/session")) or "z" in path or path == "/metrics" for path in _paths(stranger)
    )


def _paths(client: TestClient) -> Iterator[str]:
    yield from client.app.openapi()["paths"]
