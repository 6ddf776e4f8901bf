"""All figures: each its metric's value, with an id of its own, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from evaluation import results
from evaluation.conventions import CONVENTIONS
from evaluation.drafts import Drafted, Kind, Row
from evaluation.ladder import RUNGS, Rule, rung_scores
from evaluation.metrics import BY_NAME, METRICS
from evaluation.results import SCHEMA, Redrawn, by_row, metric_draws, tabulate
from evaluation.statistics.bootstrap import FEWEST_PATIENTS, Mark, clopper_pearson
from tests.evaluation.by_hand import drafted_of, samples_of, table_of, truth_of, world_of

FEW = Redrawn(draws=200)
FIGURE = ["row", "metric", "convention", "estimand", "rung", "rule"]
NUMBERS = ["value", "lo", "hi"]


@pytest.fixture(scope="module")
def visits() -> pl.DataFrame:
    return world_of({"rank-2-step-4": 3, "popularity": 2})


@pytest.fixture(scope="module")
def figures(visits) -> pl.DataFrame:
    return tabulate(visits, "origin", FEW)


def same_figures(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """The same numbers up to the order of additions, ids aside."""
    exact = [*FIGURE, "visits", "patients", "mark"]
    assert one.select(exact).equals(other.select(exact))
    for name in NUMBERS:
        assert one[name].is_null().equals(other[name].is_null())
        assert_allclose(one[name].drop_nulls(), other[name].drop_nulls(), atol=1e-9)
    return True


# --- which figures --------------------------------------------------------------------------------------


def test_every_figure_stands_once_and_every_row_has_the_same(figures):
    assert dict(figures.schema) == SCHEMA
    assert not figures.select(FIGURE).is_duplicated().any()
    first, second = (part.drop("row") for _, part in figures.group_by("row", maintain_order=True))
    assert first.select(FIGURE[1:]).equals(second.select(FIGURE[1:]))


def test_metrics_rungs_and_conventions_are_all_there(figures):
    ours = figures.filter(convention="ours")
    assert {metric.name for metric in METRICS} <= set(ours["metric"])
    assert set(ours.filter(pl.col("metric").str.starts_with("ladder_"))["rung"]) == set(RUNGS)
    assert set(ours.filter(pl.col("metric").str.starts_with("mapped_"))["metric"]) == {"mapped_p", "mapped_t"}
    assert set(figures["convention"]) == {"ours", *CONVENTIONS}
    assert set(figures.filter(convention="safedrug")["rung"]) == {"drug", "atc3"}


def test_a_value_is_the_metrics_own(figures, visits):
    for row, table in by_row(visits).items():
        at_drugs = {name: ratio.value for name, ratio in CONVENTIONS["strict"](table, "drug").items()}
        paired = {f"ladder_{name}": ratio.value for name, ratio in rung_scores(table, "atc2", Rule.ONE_TO_ONE).items()}
        expected = [
            *((("ours", "drug", name), metric.of(table).value) for name, metric in BY_NAME.items()),
            *((("strict", "drug", name), value) for name, value in at_drugs.items()),
            *((("ours", "atc2", name), value) for name, value in paired.items()),
        ]
        for (convention, rung, name), value in expected:
            found = figures.filter(row=row, convention=convention, rung=rung, metric=name)
            if name.startswith("ladder_"):
                found = found.filter(rule=Rule.ONE_TO_ONE)
            assert found["value"].to_list() == [None if value is None else pytest.approx(value)], name


def test_values_lie_within_their_intervals(figures):
    known = figures.drop_nulls(NUMBERS)
    assert known.height > figures.height / 2
    assert (known["lo"] <= known["value"] + 1e-12).all()
    assert (known["value"] <= known["hi"] + 1e-12).all()


# --- what a figure does not depend on ---------------------------------------------------------------------


def test_another_row_changes_no_other_rows_figures(figures, visits):
    more = world_of({"rank-2-step-4": 3, "popularity": 2, "previous": 1})
    assert more.head(visits.height).equals(visits)
    assert same_figures(tabulate(more, "origin", FEW).filter(pl.col("row") != "previous"), figures)


def test_the_order_of_the_visits_changes_no_figure(figures, visits):
    backwards = pl.concat([part.reverse() for part in by_row(visits).values()])
    assert same_figures(tabulate(backwards, "origin", FEW), figures)


@pytest.mark.parametrize("at_once", [1, 1000])
def test_how_many_figures_are_drawn_at_once_changes_none(figures, visits, monkeypatch, at_once):
    monkeypatch.setattr(results, "_BATCH_NUMBERS", at_once)
    again = tabulate(visits, "origin", FEW)
    assert same_figures(again, figures)
    assert again["provenance_id"].equals(figures["provenance_id"])


def test_the_same_table_gives_the_same_bytes(figures, visits):
    assert tabulate(visits, "origin", FEW).write_csv() == figures.write_csv()


# --- ids ------------------------------------------------------------------------------------------------


def test_ids_are_distinct(figures):
    assert figures["provenance_id"].n_unique() == figures.height


@pytest.mark.parametrize(
    ("origin", "redrawn"), [("other", FEW), ("origin", Redrawn(201)), ("origin", Redrawn(200, seed=1))]
)
def test_an_id_stands_for_one_table_and_one_set_of_draws(figures, visits, origin, redrawn):
    other = tabulate(visits, origin, redrawn)
    assert not set(other["provenance_id"]) & set(figures["provenance_id"])


# --- intervals --------------------------------------------------------------------------------------------


def figure(table: pl.DataFrame, metric: str) -> dict[str, object]:
    [found] = tabulate(table, "origin", FEW).filter(metric=metric, convention="ours", rung="drug").rows(named=True)
    return found


def all_right(patients: int) -> pl.DataFrame:
    """One drug ordered and one drafted, the same, at one visit each."""
    lists = [["senna"]] * patients
    return table_of(truth_of(samples_of(lists, range(patients))), {"rank-2-step-4": lists})


def test_a_share_that_is_1_everywhere_has_an_exact_interval():
    found = figure(all_right(30), "jaccard")
    assert (found["value"], found["lo"], found["hi"]) == (1, *clopper_pearson(30, 30))
    assert found["mark"] == Mark.EXACT


@pytest.mark.parametrize("count", ["drugs", "length_bias", "length_error", "same_class", "novel_per_100"])
def test_a_count_is_no_share_even_where_it_is_0_or_1_everywhere(count):
    found = figure(all_right(30), count)
    assert found["lo"] == found["value"] == found["hi"]
    assert found["mark"] == Mark.NO_SPREAD


def test_with_few_patients_there_is_no_interval():
    found = figure(all_right(FEWEST_PATIENTS - 1), "jaccard")
    assert (found["lo"], found["hi"], found["mark"], found["patients"]) == (None, None, Mark.TOO_FEW, 19)


def test_what_is_defined_nowhere_has_no_value():
    found = figure(all_right(30), "started")
    assert (found["value"], found["visits"], found["patients"], found["mark"]) == (None, 0, 0, Mark.UNDEFINED)


def test_visits_and_patients_are_those_that_count():
    samples = samples_of([["senna"]] * 60, np.repeat(np.arange(30), 2).tolist())
    lists = [["senna"]] * 50 + [None] * 10
    found = figure(truth_of(samples).count(drafted_of(samples, "rank-2-step-4", lists)), "accuracy")
    assert (found["visits"], found["patients"]) == (50, 25)


# --- draws --------------------------------------------------------------------------------------------------


def test_rows_meet_the_same_patients():
    truth = truth_of(samples_of([["senna"], ["heparin"]] * 15, range(30)))
    lists = [["senna"], ["senna"]] * 15
    drawn = metric_draws(table_of(truth, {"a": lists, "b": lists}), "jaccard", ["a", "b"], FEW)
    assert np.array_equal(drawn.boot[:, 0], drawn.boot[:, 1])
    assert drawn.boot[:, 0].std() > 0


def test_a_row_is_cut_out_as_it_was_put_in(visits):
    parts = by_row(visits)
    assert list(parts) == ["rank-2-step-4", "popularity"]
    assert all(part.equals(visits.filter(row=name)) for name, part in parts.items())


def test_a_row_with_scores_has_its_ranking_among_the_figures(visits):
    samples = samples_of([["senna"], ["heparin"]] * 15, range(30))
    scores = np.random.default_rng(0).random((30, 10))
    drafts = drafted_of(samples, "logistic", [["senna"]] * 30).drafts
    row = truth_of(samples).count(Drafted(Row("logistic", Kind.BASELINE), drafts, scores, probable=True))
    found = tabulate(row, "origin", FEW).filter(convention="ours", rung="drug")
    assert found.filter(pl.col("metric").is_in(["prauc", "brier"]))["value"].null_count() == 0
    assert found.filter(metric="brier")["value"].to_list() == [pytest.approx(row["brier_sum"].sum() / 300)]
