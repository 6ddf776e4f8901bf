"""Targets: what is wanted, and when a verdict is sure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evaluation import targets
from evaluation.drafts import SERVED, Drafted, Kind, Row
from evaluation.evaluate import Evaluation
from evaluation.findings import find
from evaluation.results import Redrawn, tabulate
from evaluation.targets import Target
from tests.evaluation.by_hand import FORMULARY, drafts_of, samples_of, truth_of

FEW = Redrawn(draws=300)


@pytest.mark.parametrize(
    ("found", "lo", "hi", "at_least", "verdict"),
    [
        (0.95, 0.91, 0.97, True, "met"),
        (0.95, 0.89, 0.97, True, "met, not surely"),
        (0.88, 0.80, 0.92, True, "missed, not surely"),
        (0.88, 0.80, 0.89, True, "missed"),
        (0.95, None, None, True, "met, not surely"),
        (1.0, 1.0, 1.0, True, "met"),
        (0.88, 0.80, 0.89, False, "met"),
        (0.95, 0.89, 0.97, False, "missed, not surely"),
        (None, None, None, True, "not measured"),
    ],
)
def test_a_verdict_is_sure_where_the_whole_interval_says_the_same(found, lo, hi, at_least, verdict):
    assert Target("any", found, lo, hi, 0.9, at_least).verdict == verdict


def world(served: float, tmp_path: Path, hits: dict[str, float] | None = None, patients: int = 40) -> Evaluation:
    """Five drugs ordered, of which served, the baselines and the oracle find so many on average."""
    rng, expected = np.random.default_rng(0), hits or {"popularity": 2.0, "logistic-history": 3.0, "oracle": 4.5}
    lists = [[str(drug) for drug in rng.permutation(FORMULARY)] for _ in range(2 * patients)]
    samples = samples_of([drugs[:5] for drugs in lists], np.repeat(np.arange(patients), 2).tolist())
    truth, counted, rows = truth_of(samples), [], []
    for name, average in {SERVED: served, **expected}.items():
        kind = Kind.PRODUCT if name == SERVED else Kind.ORACLE if name == "oracle" else Kind.BASELINE
        found = rng.binomial(5, average / 5, len(lists))
        drafted = [drugs[5 - n : 10 - n] for drugs, n in zip(lists, found, strict=True)]
        place = {drug: i for i, drug in enumerate(FORMULARY)}
        chances = np.full((len(lists), len(FORMULARY)), (5 - average) / 5)  # of ten drugs five are ordered
        for row, drugs in zip(chances, drafted, strict=True):
            row[[place[drug] for drug in drugs]] = average / 5
        drafts = drafts_of(samples, drafted, ["ok"] * len(lists), [0] * len(lists))
        rows.append({"name": name, "kind": kind.value, "rank": None, "step": None})
        counted.append(truth.count(Drafted(Row(name, kind), drafts, chances, probable=True)))
    visits = pl.concat(counted)
    checkpoint = {"name": "c", "kind": Kind.CHECKPOINT.value, "rank": 1, "step": 1}
    own = visits.filter(row=SERVED).with_columns(pl.lit("c").alias("row"), pl.lit("checkpoint").alias("kind"))
    visits, about = pl.concat([own, visits]), {"rows": [checkpoint, *rows], "selected": "c"}
    return Evaluation(tmp_path, {**about, **find(visits, about, FEW)}, tabulate(visits, "x", FEW), visits, samples)


def verdicts(found: Evaluation) -> dict[str, str]:
    return {target.name: target.verdict for target in targets.targets(found)}


def test_a_recommender_near_the_oracle_meets_every_target(tmp_path):
    found = verdicts(world(4.45, tmp_path))
    assert found.pop("ECE over the drugs in question") == "met, not surely"  # it has no interval
    assert len(found) == 6
    assert set(found.values()) == {"met"}, found


def test_one_that_is_the_same_as_a_baseline_is_not_above_every_baseline(tmp_path):
    found = verdicts(world(3.0, tmp_path))
    nearest = {name: verdict for name, verdict in found.items() if "nearest" in name}
    assert all("logistic-history" in name and verdict != "met" for name, verdict in nearest.items())
    assert {found[f"{metric}, share of the oracle's"] for metric in ("F1", "Jaccard")} == {"missed"}


def test_the_share_of_the_oracle_is_the_ratio_of_the_two_means(tmp_path):
    made = world(4.0, tmp_path)
    values = made.results.filter(convention="ours", rung="drug", rule="set", estimand="all visits, no list counts 0")
    at = {(row, metric): value for row, metric, value in values.select("row", "metric", "value").iter_rows()}
    for metric in ("f1", "jaccard"):
        assert at[SERVED, f"oracle_share_{metric}"] == pytest.approx(at[SERVED, metric] / at["oracle", metric])
        assert at["oracle", f"oracle_share_{metric}"] == 1
    line = made.results.filter(row=SERVED, metric="oracle_share_f1")
    assert line["lo"][0] < line["value"][0] < line["hi"][0]


def test_without_an_oracle_or_a_baseline_nothing_is_said_of_them(tmp_path):
    assert list(verdicts(world(4.0, tmp_path, {"popularity": 2.0}))) == [
        "answers that are a list",
        "F1 less the nearest baseline's, popularity",
        "Jaccard less the nearest baseline's, popularity",
        "ECE over the formulary",
        "ECE over the drugs in question",
    ]


def test_without_a_served_row_there_is_no_target(tmp_path):
    made = world(4.0, tmp_path)
    made.about["rows"] = [row for row in made.about["rows"] if row["name"] != SERVED]
    assert targets.to_markdown(targets.targets(made)) == ""


def test_the_table_of_targets_reads_in_words(tmp_path):
    text = targets.to_markdown(targets.targets(world(4.45, tmp_path)))
    assert "| answers that are a list" in text
    assert "at most 0.05" in text
    assert "above 0" in text
