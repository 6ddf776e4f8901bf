"""Scores: against sets counted naively, row by row of the reference's edge table, and by hand."""

from __future__ import annotations

from math import isclose
from statistics import fmean
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.prompts import Outcome
from evaluation.metrics import Empty, Visit, count, f1, jaccard, mean, precision, recall, score

drug_lists = st.lists(st.sampled_from("abcdefgh"), max_size=8)
METRICS = (precision, recall, f1, jaccard)
FORMED = [outcome for outcome in Outcome if outcome.well_formed]
FAILED = [outcome for outcome in Outcome if not outcome.well_formed]


@st.composite
def visits(draw: st.DrawFn, *, empty_lists: bool = True) -> Visit:
    """An admission with an answer of any outcome; a failed one names no drug."""
    outcome = draw(st.sampled_from(list(Outcome)))
    if outcome is Outcome.OK_EMPTY_LIST and not empty_lists:
        outcome = Outcome.OK
    named = outcome.well_formed and outcome is not Outcome.OK_EMPTY_LIST
    drafted = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8)) if named else []
    return count(drafted, draw(drug_lists), outcome)


# --- one admission --------------------------------------------------------------------------------------


@given(drug_lists, drug_lists)
def test_scores_are_what_counting_sets_gives(drafted, ordered):
    p, t = set(drafted), set(ordered)
    hits = sum(1 for drug in p if drug in t)
    visit = count(drafted, ordered)
    assert precision(visit) == (hits / len(p) if p else None)
    assert recall(visit) == (hits / len(t) if t else None)
    assert jaccard(visit) == (hits / len(p | t) if p | t else None)
    assert f1(visit) == (2 * hits / (len(p) + len(t)) if p or t else None)


@given(drug_lists, drug_lists)
def test_every_score_lies_between_0_and_1(drafted, ordered):
    visit = count(drafted, ordered)
    assert all(value is None or 0 <= value <= 1 for value in (metric(visit) for metric in METRICS))


@given(drug_lists, drug_lists)
def test_f1_lies_between_precision_and_recall(drafted, ordered):
    visit = count(drafted, ordered)
    p, r, both = precision(visit), recall(visit), f1(visit)
    assume(p is not None and r is not None)
    assert min(p, r) - 1e-12 <= both <= max(p, r) + 1e-12


@given(drug_lists, drug_lists)
def test_jaccard_follows_from_f1(drafted, ordered):
    visit = count(drafted, ordered)
    assume(f1(visit) is not None)
    assert isclose(jaccard(visit), f1(visit) / (2 - f1(visit)), abs_tol=1e-12)


@given(drug_lists, drug_lists)
def test_swapping_draft_and_truth_swaps_precision_and_recall_and_leaves_the_rest(drafted, ordered):
    one, other = count(drafted, ordered), count(ordered, drafted)
    assert (precision(one), recall(one)) == (recall(other), precision(other))
    assert (f1(one), jaccard(one)) == (f1(other), jaccard(other))


@given(drug_lists, drug_lists, st.randoms())
def test_neither_order_nor_repeats_change_a_score(drafted, ordered, draw):
    shuffled = drafted * 2
    draw.shuffle(shuffled)
    assert count(shuffled, ordered) == count(drafted, ordered)


@given(drug_lists)
def test_the_truth_itself_scores_1(ordered):
    assume(ordered)
    assert all(metric(count(ordered, ordered)) == 1 for metric in METRICS)


@given(drug_lists, drug_lists)
def test_off_formulary_counts_the_drafted_drugs_nobody_knows(drafted, known):
    assert count(drafted, [], formulary=known).off_formulary == len([d for d in set(drafted) if d not in known])


# --- the edge table of the reference, section 4 ---------------------------------------------------------

UNDRAFTED, UNORDERED, NEITHER = count([], ["a"]), count(["a"], []), count([], [], Outcome.OK_EMPTY_LIST)
D = None  # dropped from the mean

EDGES: list[tuple[Any, Empty, dict[str, float | None]]] = [
    # metric, policy, what the mean over this one visit is where p=0 t>0 | t=0 p>0 | p=t=0
    (precision, Empty.DROP, {"undrafted": D, "unordered": 0, "neither": D}),
    (precision, Empty.ZERO, {"undrafted": 0, "unordered": 0, "neither": 0}),
    (precision, Empty.ONE_IF_BOTH, {"undrafted": 0, "unordered": 0, "neither": 1}),
    (recall, Empty.DROP, {"undrafted": 0, "unordered": D, "neither": D}),
    (recall, Empty.ZERO, {"undrafted": 0, "unordered": 0, "neither": 0}),
    (recall, Empty.ONE_IF_BOTH, {"undrafted": 0, "unordered": 0, "neither": 1}),
    (f1, Empty.DROP, {"undrafted": 0, "unordered": 0, "neither": D}),
    (f1, Empty.ZERO, {"undrafted": 0, "unordered": 0, "neither": 0}),
    (f1, Empty.ONE_IF_BOTH, {"undrafted": 0, "unordered": 0, "neither": 1}),
    (jaccard, Empty.DROP, {"undrafted": 0, "unordered": 0, "neither": D}),
    (jaccard, Empty.ZERO, {"undrafted": 0, "unordered": 0, "neither": 0}),
    (jaccard, Empty.ONE_IF_BOTH, {"undrafted": 0, "unordered": 0, "neither": 1}),
]


@pytest.mark.parametrize(("metric", "empty", "row"), EDGES, ids=[f"{m.__name__}-{e}" for m, e, _ in EDGES])
def test_empty_lists_count_what_the_reference_says(metric, empty, row):
    cases = {"undrafted": UNDRAFTED, "unordered": UNORDERED, "neither": NEITHER}
    assert {name: mean([metric(visit)], [visit], empty) for name, visit in cases.items()} == row


@pytest.mark.parametrize("outcome", FAILED)
def test_no_list_where_nothing_was_ordered_is_no_success(outcome):
    visit = count([], [], outcome)
    assert all(mean([metric(visit)], [visit], Empty.ONE_IF_BOTH) == 0 for metric in METRICS)


@pytest.mark.parametrize("empty", Empty)
def test_a_mean_over_nothing_is_undefined_and_not_0(empty):
    assert mean([], [], empty) is None


@given(st.lists(visits(), min_size=1))
def test_the_policies_differ_on_undefined_scores_only(several):
    scores = [jaccard(visit) for visit in several]
    defined = [value for value in scores if value is not None]
    dropped, zero, one = (mean(scores, several, empty) for empty in (Empty.DROP, Empty.ZERO, Empty.ONE_IF_BOTH))
    assert dropped is None if not defined else isclose(dropped, fmean(defined))
    assert isclose(zero, sum(defined) / len(scores))
    assert zero <= one <= zero + (len(scores) - len(defined)) / len(scores) + 1e-12


# --- a row of the table ---------------------------------------------------------------------------------


@given(st.lists(visits(empty_lists=False), min_size=1))
def test_accuracy_over_all_is_output_rate_times_accuracy_where_no_list_is_empty(several):
    row = score(several)
    assert isclose(row.accuracy_all, row.output_rate * (row.accuracy or 0.0), abs_tol=1e-12)


@given(st.lists(visits(), min_size=1), st.sampled_from(FAILED), drug_lists)
def test_a_failed_answer_lowers_every_column_over_all_and_leaves_accuracy(several, outcome, ordered):
    before, after = score(several), score([*several, count([], ordered, outcome)])
    n = len(several)
    assert after.accuracy == before.accuracy
    assert after.drugs == before.drugs
    for column in ("output_rate", "accuracy_all", "recall", "f1", "jaccard"):
        assert isclose(getattr(after, column), getattr(before, column) * n / (n + 1), abs_tol=1e-12), column


@given(st.lists(visits(), min_size=1))
def test_every_admission_ends_as_exactly_one_outcome(several):
    row = score(several)
    assert sum(row.outcomes.values()) == row.admissions == len(several)
    assert 0 not in row.outcomes.values()
    formed = sum(number for name, number in row.outcomes.items() if Outcome(name).well_formed)
    assert isclose(row.output_rate, formed / len(several))


@given(st.lists(visits(), min_size=2), st.randoms())
def test_the_order_of_admissions_changes_no_score(several, draw):
    shuffled = several.copy()
    draw.shuffle(shuffled)
    one, other = score(several), score(shuffled)
    for column in ("output_rate", "accuracy", "accuracy_all", "recall", "f1", "jaccard", "drugs", "off_formulary"):
        assert getattr(one, column) == pytest.approx(getattr(other, column))


def test_a_baseline_has_no_output_rate():
    assert score([count(["a"], ["a"])], baseline=True).output_rate is None


def test_no_admissions_have_no_scores():
    row = score([])
    assert (row.admissions, row.output_rate, row.accuracy, row.f1, row.drugs, row.outcomes) == (0, *[None] * 4, {})


def test_a_model_that_never_gives_a_list_has_no_accuracy_and_scores_0():
    row = score([count([], ["a"], Outcome.TRUNCATED)] * 3)
    assert (row.output_rate, row.accuracy, row.accuracy_all, row.recall, row.f1, row.jaccard) == (0, None, 0, 0, 0, 0)
    assert row.drugs is None
    assert row.off_formulary is None


def test_four_admissions_scored_by_hand():
    known = {"a", "b", "c", "d"}
    row = score(
        [
            count(["a", "b", "x"], ["a", "b", "c", "d"], Outcome.OK, known),  # P 2/3, R 1/2, F1 4/7, J 2/5
            count(["a"], ["a", "b"], Outcome.OK_WITH_DUPLICATES, known),  # P 1, R 1/2, F1 2/3, J 1/2
            count([], ["a"], Outcome.OK_EMPTY_LIST, known),  # P undefined, the rest 0
            count([], ["a", "b"], Outcome.REPETITION_LOOP, known),  # no list
        ]
    )
    assert row.admissions == 4
    assert row.output_rate == 3 / 4
    assert row.accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert row.accuracy_all == pytest.approx((2 / 3 + 1) / 4)
    assert row.recall == pytest.approx((1 / 2 + 1 / 2) / 4)
    assert row.f1 == pytest.approx((4 / 7 + 2 / 3) / 4)
    assert row.jaccard == pytest.approx((2 / 5 + 1 / 2) / 4)
    assert row.drugs == pytest.approx(4 / 3)
    assert row.off_formulary == 1 / 4
    assert row.outcomes == {"repetition_loop": 1, "ok_empty_list": 1, "ok_with_duplicates": 1, "ok": 1}


@pytest.mark.parametrize("outcome", FORMED)
def test_an_empty_truth_met_by_an_empty_list_is_right(outcome):
    row = score([count([], [], outcome)])
    assert (row.accuracy, row.accuracy_all, row.recall, row.f1, row.jaccard) == (None, 1, 1, 1, 1)
