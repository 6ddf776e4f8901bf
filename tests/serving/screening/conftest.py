"""The shipped rules, made ready once."""

from __future__ import annotations

import pytest

from serving.screening import Screener


@pytest.fixture(scope="session")
def screener() -> Screener:
    return Screener()
