"""Metrics: against sets counted naively, row by row of the reference's edge table, and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose
from statistics import fmean

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.prompts import Outcome
from evaluation.drafts import Drafted, Kind, Row
from evaluation.metrics import BY_NAME, METRICS, Over, Unit, scores
from tests.evaluation.by_hand import FORMULARY, STRANGERS, drafts_of, samples_of, truth_of

Visit = tuple[Sequence[str], Sequence[str], Outcome]
"""Drafted, ordered, outcome."""

drug_lists = st.lists(st.sampled_from([*FORMULARY[:6], *STRANGERS]), max_size=8, unique=True)
FORMED = [outcome for outcome in Outcome if outcome.well_formed]
FAILED = [outcome for outcome in Outcome if not outcome.well_formed]
OVER_ALL = ("output_rate", "accuracy_all", "recall", "f1", "jaccard", "exact")


@st.composite
def visits(draw: st.DrawFn, *, empty_lists: bool = True) -> Visit:
    """An admission with an answer of any outcome; a failed one names no drug."""
    outcome = draw(st.sampled_from(list(Outcome)))
    if outcome is Outcome.OK_EMPTY_LIST and not empty_lists:
        outcome = Outcome.OK
    named = outcome.well_formed and outcome is not Outcome.OK_EMPTY_LIST
    drafted = draw(st.lists(st.sampled_from(FORMULARY[:6]), min_size=1, max_size=8, unique=True)) if named else []
    return drafted, draw(drug_lists), outcome


def table(several: Sequence[Visit], repeats: Sequence[int] | None = None) -> pl.DataFrame:
    drafted, ordered, outcomes = zip(*several, strict=True)
    samples = samples_of(ordered, range(len(several)))
    drafts = drafts_of(samples, drafted, outcomes, repeats or [0] * len(several))
    return truth_of(samples).count(Drafted(Row("rank-2-step-4", Kind.CHECKPOINT, 2, 4), drafts))


def one(drafted: Sequence[str], ordered: Sequence[str]) -> dict[str, float]:
    """The scores of one well-formed answer."""
    outcome = Outcome.OK if drafted else Outcome.OK_EMPTY_LIST
    return {name: float(score[0]) for name, score in scores(table([(drafted, ordered, outcome)])).items()}


def figures(counted: pl.DataFrame) -> dict[str, float | None]:
    return {metric.name: metric.of(counted).value for metric in METRICS}


def value(name: str, counted: pl.DataFrame) -> float | None:
    return BY_NAME[name].of(counted).value


# --- one admission --------------------------------------------------------------------------------------


@given(drug_lists, drug_lists)
def test_scores_are_what_counting_sets_gives(drafted, ordered):
    p, t = set(drafted), set(ordered)
    hits, found = sum(1 for drug in p if drug in t), one(drafted, ordered)
    if not p and not t:
        assert set(found.values()) == {1.0}
        return
    assert found["accuracy_all"] == (hits / len(p) if p else 0)
    assert found["recall"] == (hits / len(t) if t else 0)
    assert found["jaccard"] == hits / len(p | t)
    assert found["f1"] == 2 * hits / (len(p) + len(t))


@given(drug_lists, drug_lists)
def test_every_score_lies_between_0_and_1_and_f1_between_precision_and_recall(drafted, ordered):
    found = one(drafted, ordered)
    assert all(0 <= score <= 1 for score in found.values())
    both = sorted([found["accuracy_all"], found["recall"]])
    assert both[0] - 1e-12 <= found["f1"] <= both[1] + 1e-12


@given(drug_lists, drug_lists)
def test_jaccard_follows_from_f1(drafted, ordered):
    found = one(drafted, ordered)
    assert isclose(found["jaccard"], found["f1"] / (2 - found["f1"]), abs_tol=1e-12)


@given(drug_lists, drug_lists)
def test_swapping_draft_and_truth_swaps_precision_and_recall_and_leaves_the_rest(drafted, ordered):
    straight, swapped = one(drafted, ordered), one(ordered, drafted)
    assert (straight["accuracy_all"], straight["recall"]) == (swapped["recall"], swapped["accuracy_all"])
    assert (straight["f1"], straight["jaccard"]) == (swapped["f1"], swapped["jaccard"])


@given(drug_lists, drug_lists, st.randoms())
def test_the_order_of_a_list_changes_no_score(drafted, ordered, random):
    assert one(random.sample(drafted, len(drafted)), ordered) == one(drafted, ordered)


@given(drug_lists)
def test_the_truth_itself_scores_1(ordered):
    assert set(one(ordered, ordered).values()) == {1.0}
    assert value("exact", table([(ordered, ordered, Outcome.OK)])) == 1


# --- the edge table of the reference, section 4 ---------------------------------------------------------

EDGES = {
    # what the mean over this one visit is: nothing drafted | nothing ordered | neither
    "accuracy": (None, 0, None),  # the reference's: a list that names no drug is left out
    "accuracy_all": (0, 0, 1),
    "recall": (0, 0, 1),
    "f1": (0, 0, 1),
    "jaccard": (0, 0, 1),
    "exact": (0, 0, 1),
    "length_bias": (-1, 1, 0),
    "length_error": (1, 1, 0),
    "drugs": (0, 1, 0),
    "unknown": (None, 0, None),
    "off_formulary": (None, 0, None),
    "repeats": (None, 0, None),
    "same_class": (0, 0, 0),
}


@pytest.mark.parametrize("metric", EDGES)
def test_empty_lists_count_what_the_reference_says(metric):
    drug = FORMULARY[:1]
    cases = [([], drug, Outcome.OK_EMPTY_LIST), (drug, [], Outcome.OK), ([], [], Outcome.OK_EMPTY_LIST)]
    assert tuple(value(metric, table([case])) for case in cases) == EDGES[metric]


@pytest.mark.parametrize("outcome", FAILED)
def test_no_list_is_no_success_even_where_nothing_was_ordered(outcome):
    found = figures(table([([], [], outcome)]))
    assert {found[name] for name in OVER_ALL} == {0.0}
    assert {found[metric.name] for metric in METRICS if metric.over is Over.FORMED} == {None}


@pytest.mark.parametrize("outcome", FORMED)
def test_an_empty_truth_met_by_an_empty_list_is_right(outcome):
    found = figures(table([([], [], outcome)]))
    assert {found[name] for name in OVER_ALL} == {1.0}
    assert found["accuracy"] is None


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_mean_over_no_visit_is_undefined_and_not_0(metric):
    assert metric.of(table([(["senna"], ["senna"], Outcome.OK)]).clear()).value is None


# --- a row of the table ---------------------------------------------------------------------------------


@given(st.lists(visits(empty_lists=False), min_size=1))
def test_accuracy_over_all_is_output_rate_times_accuracy_where_no_list_is_empty(several):
    found = figures(table(several))
    assert isclose(found["accuracy_all"], found["output_rate"] * (found["accuracy"] or 0.0), abs_tol=1e-12)


@given(st.lists(visits(), min_size=1), st.sampled_from(FAILED), drug_lists)
def test_a_failed_answer_lowers_every_mean_over_all_and_leaves_those_over_lists(several, outcome, ordered):
    before, after = figures(table(several)), figures(table([*several, ([], ordered, outcome)]))
    n = len(several)
    for metric in METRICS:
        if metric.over is Over.ALL:
            assert isclose(after[metric.name], before[metric.name] * n / (n + 1), abs_tol=1e-12), metric.name
        if metric.over in (Over.FORMED, Over.ITEMS):
            assert after[metric.name] == before[metric.name], metric.name


@given(st.lists(visits(), min_size=2), st.randoms())
def test_the_order_of_admissions_changes_no_figure(several, random):
    straight, shuffled = figures(table(several)), figures(table(random.sample(several, len(several))))
    assert {name: x for name, x in straight.items() if x is None} == {n: x for n, x in shuffled.items() if x is None}
    for name, x in straight.items():
        assert x is None or shuffled[name] == pytest.approx(x), name


@given(st.lists(visits(), min_size=1))
def test_shares_and_scores_lie_between_0_and_1_visit_by_visit(several):
    counted = table(several)
    for metric in METRICS:
        num, den, _ = metric.of(counted)
        assert (den >= 0).all(), metric.name
        if metric.unit is not Unit.DRUGS:
            assert ((num >= 0) & (num <= den)).all(), metric.name


def test_a_model_that_never_gives_a_list_has_no_accuracy_and_scores_0():
    found = figures(table([([], ["senna"], Outcome.TRUNCATED)] * 3))
    assert {found[name] for name in OVER_ALL} == {0.0}
    assert (found["accuracy"], found["drugs"], found["unknown"], found["same_class"]) == (None,) * 4


A, B, C, D = FORMULARY[:4]


@pytest.fixture(scope="module")
def four() -> pl.DataFrame:
    return table(
        [
            ([A, B, "adde"], [A, B, C, D], Outcome.OK),  # P 2/3, R 1/2, F1 4/7, J 2/5
            ([A], [A, B], Outcome.OK_WITH_DUPLICATES),  # P 1, R 1/2, F1 2/3, J 1/2; named three times
            ([], [A], Outcome.OK_EMPTY_LIST),  # P undefined, the rest 0
            ([], [A, B], Outcome.REPETITION_LOOP),  # no list
        ],
        repeats=[0, 2, 0, 0],
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("output_rate", 3 / 4),
        ("accuracy", (2 / 3 + 1) / 2),
        ("accuracy_all", (2 / 3 + 1) / 4),
        ("recall", (1 / 2 + 1 / 2) / 4),
        ("f1", (4 / 7 + 2 / 3) / 4),
        ("jaccard", (2 / 5 + 1 / 2) / 4),
        ("exact", 0),
        ("prauc", None),
        ("drugs", 4 / 3),
        ("length_bias", -(1 + 1 + 1) / 3),
        ("length_error", (1 + 1 + 1) / 3),
        ("repeats", 2 / 6),  # of items as written: a b adde, a a a
        ("unknown", 1 / 6),
        ("off_formulary", 0),
        ("same_class", 0),
        ("recall_fifth_5", 3 / 7),  # A and B are the commonest fifth: ordered seven times, found three
        ("recall_fifth_4", 0 / 2),
        ("recall_fifth_3", None),
        ("recall_never", None),
        ("started", None),
        ("brier", None),
    ],
)
def test_four_admissions_by_hand(four, metric, expected):
    assert value(metric, four) == (None if expected is None else pytest.approx(expected))


def test_changes_since_the_previous_stay_by_hand():
    previous = [[A, B], [C], None, []]
    samples = samples_of([[A, C], [A], [A], [D]], [1, 2, 3, 4], previous)
    outcomes = ["ok", "truncated", "ok", "ok"]
    drafts = drafts_of(samples, [[A, C], [], [A], [A, D]], outcomes, [0] * 4)
    counted = truth_of(samples).count(Drafted(Row("x", Kind.BASELINE), drafts))
    assert value("continued", counted) == 1  # A; nobody else continues anything
    assert value("started", counted) == pytest.approx(fmean([1, 0, 1]))  # C; A by nobody; D
    assert value("stopped", counted) == pytest.approx(fmean([1, 0]))  # B left out; no list stops nothing


@given(drug_lists, drug_lists)
def test_copying_the_previous_list_starts_nothing(ordered, earlier):
    assume(set(ordered) - set(earlier))
    samples = samples_of([ordered], [1], [earlier])
    drafts = drafts_of(samples, [earlier], ["ok" if earlier else "ok_empty_list"], [0])
    counted = truth_of(samples).count(Drafted(Row("previous", Kind.BASELINE), drafts))
    assert value("started", counted) == 0
    assert value("stopped", counted) in (0, None)


def test_every_metric_has_a_name_of_its_own():
    assert len(BY_NAME) == len(METRICS)
    assert len({metric.title for metric in METRICS}) == len(METRICS)


# --- beside the selected checkpoint ---------------------------------------------------------------------


def test_a_list_is_changed_by_other_drugs_or_by_being_none_never_by_its_order():
    ordered, failed = [["heparin"]] * 6, Outcome.REFUSAL
    samples = samples_of(ordered, range(6))
    a, b = "furosemide", "warfarin"
    outcomes = [Outcome.OK, Outcome.OK, Outcome.OK_EMPTY_LIST, failed, failed, Outcome.OK]
    before = drafts_of(samples, [[a, b], [a, b], [], [], [], [a]], outcomes, [0] * 6)
    after = drafts_of(
        samples, [[b, a], [b, "senna"], [], [], [a], []], [*outcomes[:4], Outcome.OK, Outcome.OK_EMPTY_LIST], [0] * 6
    )
    counted = truth_of(samples).count(Drafted(Row("sex-flip", Kind.PROBE), after), before)
    assert value("changed", counted) == 3 / 6
    assert value("overlap", counted) == pytest.approx((1 + 1 / 3 + 1 + 0 + 0) / 5)


@given(st.lists(visits(), min_size=1, max_size=6))
def test_the_selected_checkpoint_never_differs_from_itself(several):
    counted = table(several)
    assert value("changed", counted) == 0
    assert value("overlap", counted) in (1, None)
