"""axe finds nothing, in any state, in either language, wide or narrow, light or dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serving.page.running import Running
from tests.serving.page.states import STATES, review

AXE = Path(__file__).parents[2] / "node" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def axe() -> str:
    if not AXE.is_file():
        pytest.skip(f"axe-core is not installed; run npm ci in {AXE.parents[2]}")
    return AXE.read_text("utf-8")


def findings(page: Any, axe: str) -> list[str]:
    """Return axe's violations, each with the first element it names."""
    page.evaluate(axe)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found]


KOREAN = ("sign_in", "filled", "wrong", "deciding", "paper", "rules")
"""Together they hold every template and script; in another language only the words are others."""


@pytest.mark.parametrize(("language", "states"), [("en", tuple(STATES)), ("ko", KOREAN)], ids=["en", "ko"])
def test_axe_finds_nothing_in_any_state(
    visit: Callable[..., Any],
    service: Running,
    axe: str,
    language: str,
    states: tuple[str, ...],
    subtests: pytest.Subtests,
) -> None:
    for name in states:
        with subtests.test(name):
            page = visit(language=language, bypass_csp=True)  # axe is evaluated, which the policy forbids
            STATES[name](page, service)
            found = findings(page, axe)
            page.context.close()
            service.drafter.free.set()
            assert found == []


@pytest.mark.parametrize(
    "options", [{"width": 360}, {"color_scheme": "dark"}, {"forced_colors": "active"}], ids=["narrow", "dark", "forced"]
)
def test_axe_finds_nothing_on_a_review_that_looks_otherwise(
    visit: Callable[..., Any], service: Running, axe: str, options: dict[str, Any]
) -> None:
    page = visit(bypass_csp=True, **options)
    review(page, service)
    assert findings(page, axe) == []
