"""docs/security.md: every hazard names its tests, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
ROWS = [row.split("|")[1:-1] for row in TEXT.splitlines() if row.startswith("| ")][1:]


def test_every_hazard_names_a_test():
    assert len(ROWS) > 25
    assert [row[0] for row in ROWS if len(row) != 3 or not re.search(r"`tests/\S+::test_\w+`", row[2])] == []


def test_every_test_that_is_named_is_there():
    named = re.findall(r"`(tests/\S+?)::(\w+)`", TEXT)
    assert [f"{path}::{name}" for path, name in named if name not in functions(ROOT / path)] == []


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
