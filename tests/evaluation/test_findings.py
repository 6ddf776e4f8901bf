"""What rows say about each other: who is better has the right sign, and few patients are never told of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from evaluation.drafts import Drafted, Kind, Row
from evaluation.findings import PRIMARY, find
from evaluation.metrics import BY_NAME
from evaluation.results import Redrawn, by_row
from evaluation.statistics import calibration
from evaluation.statistics.subgroups import MINIMUM, STRATA
from tests.evaluation.by_hand import drafted_of, samples_of, table_of, truth_of, world_of

FEW = Redrawn(draws=200)
HITS = {
    "rank-2-step-4": 1.0,
    "rank-2-step-6": 2.0,
    "rank-4-step-4": 3.0,
    "rank-4-step-6": 4.0,
    "popularity": 1.5,
    "oracle": 4.9,
}


def about(visits: pl.DataFrame, selected: str) -> dict[str, Any]:
    """What evaluation.json says of the rows."""
    lines = visits.select("row", "kind", "rank", "step").unique(maintain_order=True).rows()
    rows = [dict(zip(("name", "kind", "rank", "step"), line, strict=True)) for line in lines]
    return {"rows": rows, "selected": selected}


@pytest.fixture(scope="module")
def visits() -> pl.DataFrame:
    return world_of(HITS, patients=40)


@pytest.fixture(scope="module")
def found(visits) -> dict[str, Any]:
    return find(visits, about(visits, "rank-2-step-6"), FEW)


def by_name(lines: list[dict[str, Any]], key: str = "row") -> dict[str, dict[str, Any]]:
    return {line[key]: line for line in lines}


# --- comparisons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", PRIMARY)
def test_a_checkpoint_better_than_the_selected_one_stands_above_0(found, metric, visits):
    family = by_name(found["comparisons"][metric]["checkpoints_less_selected"])
    assert set(family) == {"rank-2-step-4", "rank-4-step-4", "rank-4-step-6"}
    assert family["rank-2-step-4"]["hi"] < 0 < family["rank-4-step-6"]["lo"]
    values = {name: BY_NAME[metric].of(table).value for name, table in by_row(visits).items()}
    for name, line in family.items():
        assert line["point"] == pytest.approx(values[name] - values["rank-2-step-6"])
        assert line["lo"] < line["point"] < line["hi"]


@pytest.mark.parametrize("metric", PRIMARY)
def test_the_selected_one_stands_above_0_against_a_worse_row_and_below_against_a_better(found, metric, visits):
    family = by_name(found["comparisons"][metric]["selected_less_others"])
    assert set(family) == {"popularity", "oracle"}
    assert family["popularity"]["point"] > 0
    assert family["oracle"]["hi"] < 0
    values = {name: BY_NAME[metric].of(table).value for name, table in by_row(visits).items()}
    for name, line in family.items():
        assert line["point"] == pytest.approx(values["rank-2-step-6"] - values[name])


def test_effects_of_rank_and_length_have_their_signs(found):
    effects = by_name(found["comparisons"]["jaccard"]["effects"], "effect")
    assert effects["rank 4 - rank 2"]["lo"] > 0
    assert effects["slope per epoch"]["lo"] > 0
    assert {"slope of rank 2", "slope of rank 4", "slope of rank 4 - rank 2"} <= set(effects)


def test_an_epoch_is_the_greatest_common_step():
    hits = {"rank-2-step-1950": 1.0, "rank-2-step-2925": 2.0, "rank-2-step-4875": 4.0}
    visits = world_of(hits, patients=40)
    found = find(visits, about(visits, "rank-2-step-1950"), FEW)
    [slope] = found["comparisons"]["accuracy_all"]["effects"]
    values = [BY_NAME["accuracy_all"].of(table).value for table in by_row(visits).values()]
    assert slope["point"] == pytest.approx(np.polyfit([2, 3, 5], values, 1)[0])


def test_the_best_checkpoint_is_named_and_no_other_row_is_best(found):
    best = found["comparisons"]["jaccard"]["best"]
    assert best["row"] == "rank-4-step-6"
    assert best["tied"] == ["rank-4-step-6"]
    assert best["chance_of_first"]["rank-4-step-6"] == 1
    assert set(best["chance_of_first"]) == {name for name in HITS if name.startswith("rank-")}
    assert best["corrected"] == pytest.approx(best["raw"], abs=0.01)  # no other ever comes first


def test_equal_checkpoints_tie():
    visits = world_of({"rank-2-step-4": 3.0, "rank-4-step-4": 3.0}, patients=40)
    best = find(visits, about(visits, "rank-2-step-4"), FEW)["comparisons"]["jaccard"]["best"]
    assert best["tied"] == ["rank-2-step-4", "rank-4-step-4"]
    assert best["corrected"] < best["raw"]


def test_one_checkpoint_alone_is_compared_with_nobody():
    visits = world_of({"rank-2-step-4": 3.0}, patients=40)
    compared = find(visits, about(visits, "rank-2-step-4"), FEW)["comparisons"]["jaccard"]
    assert compared["checkpoints_less_selected"] == compared["where_both_gave_a_list"] == []
    assert compared["selected_less_others"] == compared["effects"] == []
    assert compared["smallest_detectable"] is None
    assert compared["best"]["row"] == "rank-2-step-4"


def test_more_patients_show_smaller_differences(found):
    many = world_of(HITS, patients=160)
    smaller = find(many, about(many, "rank-2-step-6"), FEW)["comparisons"]["jaccard"]["smallest_detectable"]
    assert 0 < smaller < found["comparisons"]["jaccard"]["smallest_detectable"]


# --- failures, clustering ------------------------------------------------------------------------------


def test_an_answer_that_is_no_list_might_have_been_all_right():
    samples = samples_of([["senna"]] * 40, range(40))
    lists = [["senna"]] * 20 + [["heparin"]] * 10 + [None] * 10
    visits = truth_of(samples).count(drafted_of(samples, "rank-2-step-4", lists))
    [bounds] = find(visits, about(visits, "rank-2-step-4"), FEW)["failure_bounds"]
    assert (bounds["lower"], bounds["upper"]) == (20 / 40, 30 / 40)
    assert bounds["lo"] < bounds["lower"]
    assert bounds["upper"] < bounds["hi"]


def test_two_checkpoints_are_also_compared_where_both_gave_a_list():
    samples = samples_of([["senna"]] * 60, range(60))
    selected = [["senna"]] * 30 + [["heparin"]] * 10 + [None] * 20
    rival = [["senna"]] * 15 + [["heparin"]] * 10 + [None] * 10 + [["senna"]] * 25
    rows = {"rank-2-step-4": selected, "rank-4-step-4": rival}
    visits = table_of(truth_of(samples), rows)
    compared = find(visits, about(visits, "rank-2-step-4"), FEW)["comparisons"]["jaccard"]
    [everyone], [both] = compared["checkpoints_less_selected"], compared["where_both_gave_a_list"]
    assert everyone["point"] == pytest.approx((40 - 30) / 60)  # it answers more often
    assert both["visits"] == 25 + 5
    assert both["point"] == pytest.approx((20 - 25) / 30)  # and worse
    assert both["lo"] < both["point"] < both["hi"]


def test_visits_of_one_patient_that_score_alike_tell_less():
    samples = samples_of([["senna"]] * 80, np.repeat(np.arange(40), 2).tolist())
    lists = [["senna"] if patient % 2 else ["heparin"] for patient in samples["subject_id"]]
    visits = truth_of(samples).count(drafted_of(samples, "rank-2-step-4", lists))
    clustering = find(visits, about(visits, "rank-2-step-4"), FEW)["clustering"]
    assert clustering["icc"] == pytest.approx(1)
    assert clustering["design_effect"] == pytest.approx(2)


# --- subgroups --------------------------------------------------------------------------------------------


def test_groups_of_few_patients_show_no_number(visits):
    small = MINIMUM - 1
    sexes = ["F"] * 2 * small + ["M"] * 2 * 30 + ["U"] * 2 * 25
    visits = world_of({"rank-2-step-4": 3.0}, patients=small + 55, sex=sexes)
    found = find(visits, about(visits, "rank-2-step-4"), FEW)
    for metric in PRIMARY:
        groups = by_name(found["subgroups"][metric]["sex"], "group")
        # 19 alone could be had by subtraction, so the next smallest is hidden with them
        assert {name: group["hidden"] for name, group in groups.items()} == {"F": True, "M": False, "U": True}
        for name in ("F", "U"):
            assert {groups[name][key] for key in groups[name] if key not in ("group", "hidden", "worst")} == {None}
        assert groups["M"]["patients"] == 30
        assert groups["M"]["lo"] < groups["M"]["estimate"] < groups["M"]["hi"]


def test_every_stratum_is_there_and_an_unknown_value_is_a_group(visits):
    sexes = ["F"] * 40 + [None] * 40
    visits = world_of({"rank-2-step-4": 3.0}, patients=40, sex=sexes)
    found = find(visits, about(visits, "rank-2-step-4"), FEW)["subgroups"]["jaccard"]
    assert list(found) == list(STRATA)
    assert set(by_name(found["sex"], "group")) == {"F", "unknown"}


def test_subgroups_are_the_selected_checkpoints():
    visits = world_of({"rank-2-step-4": 1.0, "rank-4-step-4": 4.0}, patients=40)
    for selected in ("rank-2-step-4", "rank-4-step-4"):
        [everyone] = find(visits, about(visits, selected), FEW)["subgroups"]["accuracy_all"]["sex"]
        assert everyone["estimate"] == pytest.approx(BY_NAME["accuracy_all"].of(by_row(visits)[selected]).value)


# --- calibration --------------------------------------------------------------------------------------------


def test_only_rows_with_probabilities_are_calibrated_and_as_measured():
    rng = np.random.default_rng(0)
    samples = samples_of([["senna"], ["heparin"]] * 20, range(40))
    truth, drafts = truth_of(samples), drafted_of(samples, "rank-2-step-4", [["senna"]] * 40)
    guesses = Drafted(Row("logistic", Kind.BASELINE), drafts.drafts, rng.random((40, 10)).round(1), probable=True)
    visits = pl.concat([truth.count(drafts), truth.count(guesses)])
    found = find(visits, about(visits, "rank-2-step-4"), FEW)["calibration"]
    assert list(found) == ["logistic"]
    everywhere = found["logistic"]["formulary"]
    levels = calibration.levels(by_row(visits)["logistic"])
    assert everywhere["brier"] == pytest.approx(calibration.brier(levels).value)
    parts = everywhere["decomposition"]
    assert parts["reliability"] - parts["resolution"] + parts["uncertainty"] == pytest.approx(everywhere["brier"])
    assert sum(point["n"] for point in everywhere["reliability"]) == 400
    assert sum(point["n"] for point in found["logistic"]["candidates"]["reliability"]) < 400
    drawn = [point for point in everywhere["reliability"] if point["lo"] is not None]
    assert drawn
    assert all(point["lo"] <= point["y"] <= point["hi"] for point in drawn)


# --- the whole ------------------------------------------------------------------------------------------------


def test_findings_are_json_without_a_number_that_json_lacks(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_with_few_patients_there_are_findings_without_intervals():
    visits = world_of({"rank-2-step-4": 1.0, "rank-4-step-4": 4.0, "popularity": 2.0}, patients=5)
    found = find(visits, about(visits, "rank-2-step-4"), FEW)
    json.dumps(found, allow_nan=False)
    [rival] = found["comparisons"]["jaccard"]["checkpoints_less_selected"]
    assert (rival["lo"], rival["mark"]) == (None, "too few")
    assert rival["point"] > 0
    assert {group["hidden"] for stratum in found["subgroups"]["jaccard"].values() for group in stratum} == {True}


def test_the_same_table_gives_the_same_findings(found, visits):
    assert find(visits, about(visits, "rank-2-step-6"), FEW) == found
