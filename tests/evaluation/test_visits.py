"""The per-visit table: every column by hand, and against sets counted plainly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ContractError
from evaluation.drafts import Drafted, Kind, Row
from evaluation.ladder import RUNGS
from evaluation.metrics import RARITIES
from evaluation.statistics.subgroups import STRATA
from evaluation.visits import Truth
from tests.evaluation.by_hand import FORMULARY, STRANGERS, drafted_of, drafts_of, samples_of, table_of, truth_of

TRUTHS = [
    ["acetaminophen", "furosemide", "simvastatin", "torsemide"],
    ["warfarin", "heparin"],
    ["senna", "furosemide"],
    ["omeprazole"],
    ["omeprazole"],
]
SUBJECTS = [1, 2, 2, 3, 3]
PREVIOUS = [["furosemide", "warfarin", "senna"], None, [], ["heparin"], ["heparin"]]
DRAFTS = [["furosemide", "simvastatin", "oxycodone", "lorazepam", "torsemide", "adde"], [], ["senna"], [], []]
OUTCOMES = ["ok_with_duplicates", "truncated", "ok", "empty", "ok_empty_list"]

BY_HAND = {
    "outcome": OUTCOMES,
    "well_formed": [True, False, True, False, True],
    "items": [8, 0, 1, 0, 0],
    "repeats": [2, 0, 0, 0, 0],
    "unknown": [1, 0, 0, 0, 0],  # adde
    "off_formulary": [1, 0, 0, 0, 0],  # torsemide
    "p_drug": [6, 0, 1, 0, 0],
    "t_drug": [4, 2, 2, 1, 1],
    "tp_drug": [3, 0, 1, 0, 0],
    "one_drug": [3, 0, 1, 0, 0],
    "p_ingredient": [6, 0, 1, 0, 0],
    "tp_ingredient": [3, 0, 1, 0, 0],
    "p_atc4": [5, 0, 1, 0, 0],  # furosemide and torsemide are both C03CA; adde counts, without a class
    "t_atc4": [3, 2, 2, 1, 1],
    "tp_atc4": [2, 0, 1, 0, 0],  # C03CA, C10AA
    "one_atc4": [3, 0, 1, 0, 0],  # C03CA twice, C10AA
    "t_atc3": [3, 1, 2, 1, 1],  # warfarin and heparin are both B01A
    "p_atc2": [5, 0, 1, 0, 0],
    "tp_atc2": [3, 0, 1, 0, 0],  # N02 too: oxycodone for acetaminophen
    "one_atc2": [4, 0, 1, 0, 0],
    "mapped_p": [5, 0, 1, 0, 0],
    "mapped_t": [4, 2, 2, 1, 1],
    "same_class_pairs": [1, 0, 0, 0, 0],
    "history": [True, False, True, True, True],  # an earlier stay without drugs is known
    "continued_t": [1, 0, 0, 0, 0],  # furosemide
    "continued_tp": [1, 0, 0, 0, 0],
    "started_t": [3, 0, 2, 1, 1],
    "started_tp": [2, 0, 1, 0, 0],  # simvastatin, torsemide
    "stopped": [2, 0, 0, 1, 1],  # warfarin, senna; heparin
    "stopped_right": [2, 0, 0, 0, 1],  # no list stops nothing, an empty one does
    "rare_t": [[1, 0, 0, 0, 1, 2], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]],
    "rare_tp": [[1, 0, 0, 0, 1, 1], [0] * 6, [0, 0, 1, 0, 0, 0], [0] * 6, [0] * 6],
    "pairs": [15, 0, 0, 0, 0],
    "mapped_pairs": [10, 0, 0, 0, 0],
    "ddi_pairs": [1, 0, 0, 0, 0],  # oxycodone, lorazepam
    "pairs_truth": [6, 1, 1, 0, 0],
    "ddi_truth": [0, 0, 0, 0, 0],
    "novel_pairs": [1, 0, 0, 0, 0],
    "ddi_severity": [[0, 1, 0, 0, 0], *[[0] * 5] * 4],
    # of another patient's lists, furosemide alone is shared, with the third visit and by it
    "chance_precision_drug": [1 / 2 / 4, 0, 1 / 4 / 3, 0, 0],
    "chance_recall_drug": [1 / 4 / 4, 0, 1 / 2 / 3, 0, 0],
    "chance_f1_drug": [2 / 6 / 4, 0, 2 / 6 / 3, 0, 0],
    "sex": ["F"] * 5,
    "age_band": ["40 to 64"] * 5,
}


@pytest.fixture(scope="module")
def samples() -> pl.DataFrame:
    return samples_of(TRUTHS, SUBJECTS, PREVIOUS)


@pytest.fixture(scope="module")
def truth(samples) -> Truth:
    return truth_of(samples)


@pytest.fixture(scope="module")
def drafted(samples) -> Drafted:
    drafts = drafts_of(samples, DRAFTS, OUTCOMES, [2, 0, 0, 0, 0])
    return Drafted(Row("rank-2-step-000004", Kind.CHECKPOINT, 2, 4), drafts)


@pytest.mark.parametrize("column", BY_HAND)
def test_a_column_is_what_the_hand_counts(truth, drafted, column):
    found = truth.count(drafted)[column].to_list()
    assert found == (pytest.approx(BY_HAND[column]) if column.startswith("chance") else BY_HAND[column])


def test_who_drafted_for_whom_stands_in_every_line(truth, drafted, samples):
    found = truth.count(drafted)
    assert found.select("row", "kind", "rank", "step").unique().rows() == [("rank-2-step-000004", "checkpoint", 2, 4)]
    assert found.select("subject_id", "hadm_id").equals(samples.select("subject_id", "hadm_id"))
    other = truth.count(replace(drafted, row=Row("popularity", Kind.BASELINE)))
    assert other.select("row", "kind", "rank", "step").unique().rows() == [("popularity", "baseline", None, None)]
    assert other.schema == found.schema


def test_the_table_has_a_column_for_every_stratum_and_neither_text_nor_drug(truth, drafted):
    found = truth.count(drafted)
    assert set(STRATA) <= set(found.columns)
    words = {str(value) for name in found.select(pl.selectors.string()).columns for value in found[name]}
    assert not words & {*FORMULARY, *STRANGERS}


def test_three_drugs_of_a_class_are_three_pairs():
    truth = truth_of(samples_of([["senna"]], [1]))
    lists = [["furosemide", "torsemide", "bumetanide", "senna"]]
    assert table_of(truth, {"popularity": lists})["same_class_pairs"].to_list() == [3]


def test_scores_are_over_the_formulary_and_a_stranger_is_never_found(truth, drafted):
    scores = np.tile(np.linspace(0.9, 0.0, len(FORMULARY)), (5, 1))
    found = truth.count(replace(drafted, scores=scores, probable=True))
    # visit 1: places 1, 2 and 3 of the ranking are right, and torsemide has none; visit 3: places 2 and 8
    assert found["average_precision"].to_list()[0] == pytest.approx(3 / 4)
    assert found["average_precision"].to_list()[2] == pytest.approx((1 / 2 + 2 / 8) / 2)
    assert found["brier_n"].to_list() == [len(FORMULARY)] * 5
    assert found["level_y"].list.sum().to_list() == [3, 2, 2, 1, 1]
    unscored = truth.count(drafted)
    assert unscored["average_precision"].null_count() == unscored["brier_sum"].null_count() == 5
    assert found.schema == unscored.schema


def test_drafts_of_other_visits_are_refused(truth, samples):
    other = drafted_of(samples.with_columns(pl.col("hadm_id") + 1), "popularity", [["senna"]] * 5)
    with pytest.raises(ContractError, match="drafts of popularity and the samples are of different admissions"):
        truth.count(other)
    backwards = drafted_of(samples.reverse(), "popularity", [["senna"]] * 5)
    with pytest.raises(ContractError):
        truth.count(backwards)


drug_lists = st.lists(st.sampled_from([*FORMULARY, *STRANGERS]), unique=True, max_size=6)
worlds = st.lists(
    st.tuples(st.integers(1, 3), drug_lists, st.none() | drug_lists, st.none() | drug_lists), min_size=1, max_size=5
)


def _table(world, extra=()) -> pl.DataFrame:
    subjects, truths, previous, drafts = zip(*world, strict=True)
    truth = truth_of(samples_of(truths, subjects, previous))
    return table_of(truth, {"rank-2-step-4": drafts, **{name: [["senna"]] * len(drafts) for name in extra}})


@given(worlds)
def test_counts_are_those_of_plain_sets(world):
    found = _table(world)
    for row, (_, ordered, earlier, draft) in zip(found.iter_rows(named=True), world, strict=True):
        t, p, h = set(ordered), set(draft or ()), set(earlier or ())
        assert (row["p_drug"], row["t_drug"], row["tp_drug"], row["items"]) == (len(p), len(t), len(p & t), len(p))
        known = earlier is not None
        assert row["history"] == known
        expected = {
            "continued_t": len(t & h),
            "continued_tp": len(p & t & h),
            "started_t": len(t - h),
            "started_tp": len(p & t - h),
            "stopped": len(h - t),
            "stopped_right": len(h - t - p) * (draft is not None),
        }
        assert {name: row[name] for name in expected} == {name: known * n for name, n in expected.items()}
        assert (row["off_formulary"], row["unknown"]) == ("torsemide" in p, "adde" in p)
        assert (sum(row["rare_t"]), sum(row["rare_tp"]), len(row["rare_t"])) == (len(t), len(p & t), RARITIES)
        for rung in RUNGS:
            assert row[f"tp_{rung}"] <= row[f"one_{rung}"] <= min(len(p), len(t))


@given(worlds, st.randoms())
def test_the_order_of_the_visits_changes_no_count(world, random):
    places = random.sample(range(len(world)), len(world))
    straight = _table(world).drop("hadm_id")
    shuffled = _table([world[i] for i in places]).drop("hadm_id")
    for name in straight.columns:
        expected = straight[name].gather(places).to_list()
        assert shuffled[name].to_list() == (pytest.approx(expected) if name.startswith("chance") else expected)


@given(worlds)
def test_another_row_changes_no_line_of_the_first(world):
    alone = _table(world)
    beside = _table(world, extra=("popularity", "previous"))
    assert beside.head(len(world)).equals(alone)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_fifths_of_any_formulary_go_from_the_rarest_to_the_commonest(size):
    samples = samples_of([[drug] for drug in FORMULARY[:size]], list(range(size)))
    rare = table_of(truth_of(samples, FORMULARY[:size]), {"popularity": [["senna"]] * size})["rare_t"].to_list()
    fifths = [row.index(1) for row in rare]
    assert fifths == sorted(fifths, reverse=True)
    assert fifths[0] == RARITIES - 1
    assert min(fifths) >= 1
