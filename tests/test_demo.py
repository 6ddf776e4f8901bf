"""What `make demo` printed, where it was run: the tiny model is better than what needs no model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "demo" / "runs" / "evaluation-test"


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
    rows = [row for row in about["rows"] if row["kind"] == "checkpoint" and not row["name"].startswith("labels-")]
    cells = [(row["rank"], row["step"]) for row in rows]
    steps = sorted({step for _, step in cells})
    assert len(steps) == 4
    assert cells == [(rank, step) for rank in (16, 32) for step in steps]


def test_the_selected_checkpoint_beats_what_needs_no_model_beyond_chance(about: dict[str, Any]) -> None:
    less = {line["row"]: line for line in about["comparisons"]["jaccard"]["selected_less_others"]}
    for rival in ("random", "popularity", "popularity-by-chapter", "previous", "zero-shot-base", "note-swap"):
        assert less[rival]["lo"] > 0, rival


def test_what_is_served_is_the_label_model_and_beats_every_baseline_beyond_chance(about: dict[str, Any]) -> None:
    assert about["checkpoints"][about["selected"]]["objective"] == "labels"
    for metric, lines in about["served_less_baselines"].items():
        assert {line["row"] for line in lines} >= {"logistic-history", "pooled"}
        for line in (line for line in lines if line["row"] != "oracle"):
            assert line["lo"] > 0, (metric, line["row"])


def test_what_is_served_reaches_nine_tenths_of_the_best_possible(about: dict[str, Any]) -> None:
    """And what it says of every drug is true to a twentieth."""
    results = pl.read_csv(FOLDER / "results.csv").filter(pl.col("row") == "served", pl.col("convention") == "ours")
    found = dict(results.filter(pl.col("rung") == "drug").select("metric", "value").iter_rows())
    assert found["oracle_share_f1"] >= 0.9
    assert found["oracle_share_jaccard"] >= 0.88
    assert found["ece"] <= 0.05
    assert found["output_rate"] == 1


def test_the_demo_ends_with_a_checkpoint_that_can_be_served(about: dict[str, Any]) -> None:
    [line] = re.findall(r"serve --model \$\(DEMO\)/(\S+)", (ROOT / "Makefile").read_text("utf-8"))
    assert (ROOT / "demo" / line / "manifest.json").is_file()


def test_nobody_beats_the_oracle(scores: dict[str, dict[str, float]]) -> None:
    assert max(scores["jaccard"].values()) == scores["jaccard"]["oracle"]


def test_nearly_every_answer_is_a_list(about: dict[str, Any], scores: dict[str, dict[str, float]]) -> None:
    rates = {row: rate for row, rate in scores["output_rate"].items() if row.startswith("rank-32-")}
    assert max(rates.values()) >= 0.95
