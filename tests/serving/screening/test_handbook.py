"""docs/screening.md says what the rules say."""

from __future__ import annotations

import doctest
from pathlib import Path

from serving.screening.handbook import TABLES, with_tables

PAGE = Path(__file__).parents[3] / "docs" / "screening.md"


def test_the_page_has_every_table_as_the_rules_have_it_now() -> None:
    page = PAGE.read_text("utf-8")
    assert all(f"<!-- table: {name} -->" in page for name in TABLES)
    assert with_tables(page) == page, "write serving.screening.handbook.with_tables(page) into docs/screening.md"


def test_the_page_runs() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0
