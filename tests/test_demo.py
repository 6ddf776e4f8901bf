"""What `make demo` printed, where it was run: the tiny model is better than what needs no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

FOLDER = Path(__file__).parents[1] / "demo" / "runs" / "evaluation-test"


@pytest.fixture(scope="module")
def about() -> dict[str, Any]:
    if not (FOLDER / "evaluation.json").is_file():
        pytest.skip("no demo here; `make demo` makes what this looks at")
    return json.loads((FOLDER / "evaluation.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def scores(about: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Our own scores by metric and row."""
    results = pl.read_csv(FOLDER / "results.csv").filter(pl.col("convention") == "ours", pl.col("rung") == "drug")
    found: dict[str, dict[str, float]] = {}
    for row, metric, value in results.select("row", "metric", "value").iter_rows():
        found.setdefault(metric, {})[row] = value
    return found


def test_the_demo_has_two_ranks_at_four_steps(about: dict[str, Any]) -> None:
    cells = [(row["rank"], row["step"]) for row in about["rows"] if row["kind"] == "checkpoint"]
    steps = sorted({step for _, step in cells})
    assert len(steps) == 4
    assert cells == [(rank, step) for rank in (16, 32) for step in steps]


def test_the_selected_checkpoint_beats_what_needs_no_model_beyond_chance(about: dict[str, Any]) -> None:
    less = {line["row"]: line for line in about["comparisons"]["jaccard"]["selected_less_others"]}
    for rival in ("random", "popularity", "popularity-by-chapter", "previous", "zero-shot-base", "note-swap"):
        assert less[rival]["lo"] > 0, rival


def test_nobody_beats_the_oracle(scores: dict[str, dict[str, float]]) -> None:
    assert max(scores["jaccard"].values()) == scores["jaccard"]["oracle"]


def test_nearly_every_answer_is_a_list(about: dict[str, Any], scores: dict[str, dict[str, float]]) -> None:
    assert scores["output_rate"][about["selected"]] >= 0.95
