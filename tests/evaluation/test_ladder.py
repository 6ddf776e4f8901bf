"""The ladder: what names are at each rung, and how two lists match there."""

from __future__ import annotations

from itertools import permutations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.drug_vocabulary import Level, read_drug_vocabulary
from evaluation.ladder import RUNGS, Projection, Rule, coverage, rung_scores
from tests.evaluation.matching import columns, match

NAMES = (
    "Acetaminophen",
    "acetaminophen iv",
    "Sulfameth/Trimethoprim DS",
    "trimethoprim",
    "Furosemide",
    "torsemide",
    "Metoprolol Tartrate",
    "Metoprolol Succinate XL",
    "insulin",
    "adde",
)
classes = st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=8)
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=6)


@pytest.fixture(scope="module")
def projection() -> Projection:
    return Projection(read_drug_vocabulary())


# --- classes ------------------------------------------------------------------------------------------


def test_a_combination_is_one_class_at_every_rung(projection):
    assert projection.rungs(["Sulfameth/Trimethoprim DS"]) == {
        "drug": ["sulfameth/trimethoprim ds"],
        "ingredient": ["sulfamethoxazole|trimethoprim"],
        "atc5": ["j01ee01"],
        "atc4": ["j01ee"],
        "atc3": ["j01e"],
        "atc2": ["j01"],
    }


def test_a_combination_without_a_code_of_its_own_is_the_set_of_its_parts_codes(projection):
    assert projection.rungs(["lisinopril/warfarin"])["atc4"] == ["b01aa|c09aa"]
    assert columns(projection, ["lisinopril/warfarin"], ["lisinopril"])["tp_atc4"] == 0


def test_a_name_nobody_knows_has_a_class_at_the_drug_rung_only(projection):
    assert projection.classes("adde") == ("adde", None, None, None, None, None)


def test_a_cohort_called_by_atc_codes_keeps_the_rungs_above_it(projection):
    assert projection.classes("n02aa") == ("n02aa", None, None, "n02aa", "n02a", "n02")


@pytest.mark.parametrize("level", [Level.ATC5, Level.ATC4, Level.ATC3])
def test_labels_of_the_etl_are_the_classes_of_the_ladder(projection, level):
    vocabulary = read_drug_vocabulary()
    for name in NAMES[:-1]:
        assert projection.rungs([name])[level.value] == ["|".join(vocabulary.labels(name, level))]


# --- matching -----------------------------------------------------------------------------------------


def test_each_drug_is_credited_once_in_pairs_and_each_class_once_in_sets():
    counted = match(["a", "a", "b", None], ["a", "b", "b", "b", None])
    assert counted == (3, 3, 2, 2)


@given(classes, classes)
def test_pairs_are_as_many_as_the_best_pairing_finds(predicted, truth):
    short, long = sorted([predicted, truth], key=len)
    short = short[:5]
    predicted, truth = short, long[:5]
    padded = truth + ["-"] * max(0, len(short) - len(truth))
    best = max(
        sum(a is not None and a == b for a, b in zip(predicted, order, strict=False)) for order in permutations(padded)
    )
    assert match(predicted, truth).one == best


@given(classes, classes)
def test_matching_is_symmetric_and_bounded(predicted, truth):
    p, t, tp, one = match(predicted, truth)
    assert match(truth, predicted) == (t, p, tp, one)
    assert tp <= one <= min(len(predicted), len(truth))
    assert tp <= min(p, t)


@given(classes, classes, st.randoms())
def test_the_order_of_a_list_does_not_matter(predicted, truth, random):
    shuffled = random.sample(predicted, len(predicted))
    assert match(shuffled, truth) == match(predicted, truth)


@given(names, names)
def test_coarser_atc_rungs_never_pair_fewer_drugs(projection, predicted, truth):
    row = columns(projection, predicted, truth)
    atc = [row[f"one_{rung}"] for rung in RUNGS[2:]]
    assert atc == sorted(atc)
    assert row["p_drug"] == len({projection.classes(name)[0] for name in predicted})
    assert row["mapped_p"] == sum(name != "adde" for name in predicted)


def test_unmapped_drugs_stay_in_the_lists_and_match_nothing_above_their_name(projection):
    row = columns(projection, ["adde", "furosemide"], ["adde", "torsemide"])
    assert (row["tp_drug"], row["one_drug"]) == (1, 1)
    assert (row["p_atc3"], row["t_atc3"], row["tp_atc3"], row["one_atc3"]) == (2, 2, 1, 1)
    assert (row["tp_atc5"], row["one_atc5"]) == (0, 0)


# --- scores -------------------------------------------------------------------------------------------


def test_rung_scores_are_what_the_hand_counts(projection):
    visits = pl.DataFrame(
        [
            columns(projection, ["acetaminophen", "acetaminophen iv", "furosemide"], ["acetaminophen", "torsemide"]),
            columns(projection, [], ["furosemide"]),
        ]
    )
    pairs, sets = rung_scores(visits, "atc3"), rung_scores(visits, "atc3", Rule.SET)
    assert pairs["precision"].value == pytest.approx((2 / 3) / 2)
    assert pairs["recall"].value == pytest.approx(1 / 2)
    assert pairs["f1"].value == pytest.approx((4 / 5) / 2)
    assert sets["precision"].value == pytest.approx(1 / 2)


def test_coverage_counts_drugs_not_lists(projection):
    visits = pl.DataFrame([columns(projection, ["adde"], ["furosemide"]), columns(projection, NAMES[:3], ["adde"])])
    covered = coverage(visits)
    assert covered["p"].value == 3 / 4
    assert covered["t"].value == 1 / 2
