"""The printed table: every number is a figure of results.csv, marked as the comparisons have it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.cohort import read_samples
from evaluation import table
from evaluation.drafts import as_drafts
from evaluation.evaluate import Evaluation
from evaluation.figures import UNDEFINED, Figures, written
from evaluation.metrics import BY_NAME, Unit
from evaluation.results import SCHEMA

GOLDEN = Path(__file__).parent / "golden"
NAMES = {"a": "rank-16-step-000010", "b": "rank-32-step-000010", "c": "rank-32-step-000020", "p": "popularity"}


def line(
    row: str, metric: str, value: float | None, lo: float | None = None, hi: float | None = None
) -> dict[str, Any]:
    about = {"convention": "ours", "estimand": "all", "rung": "drug", "rule": "set", "visits": 50, "patients": 40}
    found = {"row": row, "metric": metric, "value": value, "lo": lo, "hi": hi, "mark": "", "provenance_id": "0" * 12}
    return {**found, **about}


def compared(row: str, point: float, lo: float | None, hi: float | None) -> dict[str, Any]:
    return {"row": row, "point": point, "se": 0.01, "lo": lo, "hi": hi, "p": 0.01, "holm": 0.02, "mark": ""}


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    jaccards = {"a": 0.30, "b": 0.41, "c": 0.40, "p": 0.2}
    lines = [
        figure
        for key, name in NAMES.items()
        for figure in (
            line(name, "output_rate", 0.955 if key != "p" else 1.0),
            line(name, "accuracy", 0.5),
            line(name, "accuracy_all", 0.4777),
            line(name, "jaccard", jaccards[key], jaccards[key] - 0.05, jaccards[key] + 0.05),
            line(name, "prauc", 0.5 if key == "p" else None),
            line(name, "drugs", 12.34),
        )
    ]
    rows = [
        {"name": NAMES["a"], "kind": "checkpoint", "rank": 16, "step": 10},
        {"name": NAMES["b"], "kind": "checkpoint", "rank": 32, "step": 10},
        {"name": NAMES["c"], "kind": "checkpoint", "rank": 32, "step": 20},
        {"name": "popularity", "kind": "baseline", "rank": None, "step": None},
    ]
    best = {"row": NAMES["b"], "raw": 0.41, "corrected": 0.395, "tied": [NAMES["b"], NAMES["c"]]}
    jaccard = {
        "best": best,
        "smallest_detectable": 0.0312,
        "selected_less_others": [compared("popularity", 0.2, 0.15, 0.25), compared("knn", 0.0, None, None)],
    }
    about = {
        "admissions": 50,
        "patients": 40,
        "split": "test",
        "selected": NAMES["c"],
        "matched_lengths": False,
        "served_less_baselines": {"f1": [], "jaccard": []},
        "rows": rows,
        "checkpoints": {name: {} for key, name in NAMES.items() if key != "p"},
        "redrawn": {"draws": 2000, "seed": 0},
        "comparisons": {"jaccard": jaccard},
    }
    results = pl.DataFrame(lines, schema=SCHEMA)
    return Evaluation(tmp_path, about, results, pl.DataFrame(), pl.DataFrame())


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_main_table_reads_as_the_golden_file(evaluation):
    text, path = table.main_table(evaluation), GOLDEN / "table.md"
    if os.environ.get("REGENERATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_the_best_is_bold_and_those_that_tie_with_it_are_marked(evaluation):
    header, _, *rows = cells(table.main_table(evaluation))
    jaccard = [row[header.index("Jaccard")] for row in rows]
    assert [(text.startswith("**"), text.endswith("=")) for text in jaccard] == [
        *((False, False), (True, False), (False, True), (False, False)),
    ]


def test_a_rule_has_no_output_rate_and_a_list_alone_no_prauc(evaluation):
    header, _, *rows = cells(table.main_table(evaluation))
    assert [row[header.index("output rate")] for row in rows] == ["95.5 %", "95.5 %", "95.5 %", ""]
    assert [row[header.index("PRAUC")] for row in rows] == [UNDEFINED, UNDEFINED, UNDEFINED, "0.500"]


def test_only_differences_with_an_interval_are_called_better(evaluation):
    text = table.main_table(evaluation)
    assert f"{NAMES['c']} less popularity: +0.200 [+0.150, +0.250], better." in text
    assert "less knn" not in text


@pytest.mark.parametrize(
    ("lo", "hi", "verdict"), [(0.01, 0.3, "better"), (-0.3, -0.01, "worse"), (-0.1, 0.1, "not to be told apart")]
)
def test_a_difference_is_called_by_which_side_of_zero_its_interval_lies_on(evaluation, lo, hi, verdict):
    evaluation.about["comparisons"]["jaccard"]["selected_less_others"] = [compared("popularity", 0.0, lo, hi)]
    assert f", {verdict}." in table.main_table(evaluation)


def test_the_reference_s_table_holds_checkpoints_and_its_own_columns_alone(evaluation):
    header, _, *rows = cells(table.parity_table(evaluation))
    assert header == ["rank", "step", "output rate", "accuracy", "appropriateness"]
    assert rows == [[*cell, "95.5 %", "50.0 %", "not judged"] for cell in (["16", "10"], ["32", "10"], ["32", "20"])]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, Unit.SHARE, UNDEFINED),
        (0.1234, Unit.SHARE, "12.3 %"),
        (0.1235, Unit.SCORE, "0.123"),
        (3.14, Unit.DRUGS, "3.1"),
    ],
)
def test_a_value_is_written_by_its_unit(value, unit, text):
    assert written(value, unit) == text


def test_a_figure_that_is_not_there_is_undefined(evaluation):
    assert Figures(evaluation.results).text("popularity", BY_NAME["f1"]) == UNDEFINED


def test_the_worked_example_marks_every_drug_right(evaluation, tiny_cohort):
    samples = read_samples(tiny_cohort, "test")
    halves = [[*drugs[::2], "a drug nobody ordered"] for drugs in samples["drugs"]]
    (evaluation.folder / "predictions").mkdir()
    as_drafts(samples, halves).write_parquet(evaluation.folder / "predictions" / f"{NAMES['c']}.parquet")
    for place, sample in enumerate(samples.iter_rows(named=True)):
        text = table.worked_example(replace(evaluation, samples=samples), place)
        marked = [
            line.strip() for line in text.split("Draft (")[1].splitlines()[1:] if line.startswith(("  + ", "  - "))
        ]
        assert marked == [f"{'+' if drug in sample['drugs'] else '-'} {drug}" for drug in halves[place]]
        missed = text.splitlines()[-1].removeprefix("Ordered and not drafted: ")
        assert missed == (", ".join(drug for drug in sample["drugs"] if drug not in halves[place]) or "nothing")
        assert "None" not in text
