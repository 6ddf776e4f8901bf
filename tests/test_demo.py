"""What `make demo` printed, where it was run: the tiny model is better than what needs no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).parents[1] / "demo" / "runs" / "evaluation-test" / "table.json"


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    if not TABLE.is_file():
        pytest.skip("no demo here; `make demo` makes what this looks at")
    return json.loads(TABLE.read_text("utf-8"))


def test_the_demo_has_two_ranks_at_four_steps(table: dict[str, Any]) -> None:
    cells = [(cell["rank"], cell["step"]) for cell in table["cells"]]
    steps = sorted({step for _, step in cells})
    assert len(steps) == 4
    assert cells == [(rank, step) for rank in (16, 32) for step in steps]


def test_the_best_cell_beats_both_baselines_clearly(table: dict[str, Any]) -> None:
    best = max(cell["jaccard"] for cell in table["cells"])
    assert best > table["baselines"]["popularity"]["jaccard"] + 0.08
    assert best > table["baselines"]["previous admission"]["jaccard"] + 0.02


def test_nobody_beats_the_oracle(table: dict[str, Any]) -> None:
    assert max(cell["jaccard"] for cell in table["cells"]) < table["baselines"]["oracle"]["jaccard"]


def test_nearly_every_answer_is_a_list(table: dict[str, Any]) -> None:
    assert max(table["cells"], key=lambda cell: cell["jaccard"])["output_rate"] >= 0.95
