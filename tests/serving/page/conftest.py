"""A running service and a real browser; what breaks the content security policy or leaves the origin fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.page.running import Running, running


@pytest.fixture(scope="session")
def service(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with keys, whose model is a baseline of the tiny cohort."""
    with running(tiny_cohort, tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture
def visit(browser: Any, service: Running) -> Iterator[Callable[..., Any]]:
    """Opens pages of a reader, signed in unless told otherwise: visit(language="ko", width=360)."""
    opened, broken = [], []

    def visit(*, language: str = "en", width: int = 1280, signed_in: bool = True, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, locale=language, **options)
        context.set_default_timeout(10_000)
        if signed_in:
            assert context.request.post(f"{service.address}/session", data={"key": service.key}).ok
        page = context.new_page()
        page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("request", lambda sent: None if _ours(sent.url, service) else broken.append(sent.url))
        opened.append(context)
        return page

    yield visit
    for context in opened:
        context.close()
    service.drafter.free.set()
    assert broken == []


def _ours(url: str, service: Running) -> bool:
    return url.startswith((f"{service.address}/", "data:"))
