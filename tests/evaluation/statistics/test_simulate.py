"""The world of known truth: it is as it says, and the statistics keep their word in it."""

from __future__ import annotations

import json
from math import sqrt

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from etl.prompts import Outcome
from evaluation.statistics.commands import simulate as command
from evaluation.statistics.simulate import (
    EFFECTS,
    EQUAL,
    VISIT_SHARES,
    Finding,
    columns,
    judge_items,
    simulate,
    to_markdown,
)

WORLDS = 150


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in simulate(WORLDS, patients=150, draws=400, seed=11)}


# --- the world ------------------------------------------------------------------------------------------------


def test_a_large_world_scores_its_closed_truth():
    num, den = columns(EFFECTS.world(60_000, np.random.default_rng(0)))
    measured = (num.sum(axis=0) / den.sum(axis=0)).reshape(5, 8)
    np.testing.assert_allclose(measured, np.array(list(EFFECTS.true_scores().values())), atol=0.006)


def test_frequent_patients_are_harder_so_that_visits_and_patients_score_differently():
    truth = EFFECTS.true_scores()
    assert (truth["accuracy, all patients"] > truth["accuracy, all visits"] + 0.005).all()


def test_patients_have_as_many_visits_as_in_the_demo():
    visits = np.bincount(EQUAL.world(20_000, np.random.default_rng(0)).subject_id)
    assert visits.min() == 1
    assert visits.max() <= 20
    assert visits.mean() == pytest.approx(2.8, abs=0.1)
    assert VISIT_SHARES.sum() == pytest.approx(1)


def test_counts_are_those_of_lists():
    world = EFFECTS.world(300, np.random.default_rng(0))
    assert (world.true_positives <= np.minimum(world.predicted, world.truth)).all()
    assert ((world.predicted > 0) == world.formed).all()
    well = np.vectorize(lambda outcome: Outcome(outcome).well_formed)(world.outcome)
    assert (well == world.formed).all()
    assert (world.truth == world.truth[:, :1]).all()  # a visit's truth does not depend on who drafts


def test_visits_of_a_patient_and_cells_of_a_visit_resemble_each_other():
    world = EQUAL.world(20_000, np.random.default_rng(0))
    score = np.where(world.formed, world.precision, np.nan)
    pair = np.flatnonzero(world.subject_id[1:] == world.subject_id[:-1])

    def correlation(one, other):
        both = ~np.isnan(one) & ~np.isnan(other)
        return np.corrcoef(one[both], other[both])[0, 1]

    assert correlation(score[pair, 0], score[pair + 1, 0]) > 0.2
    assert correlation(score[:, 0], score[:, 1]) > correlation(score[pair, 0], score[pair + 1, 1]) > 0.1


def test_a_judge_errs_as_often_as_told():
    judged = judge_items(
        np.random.default_rng(0),
        rate=0.65,
        sensitivity=0.97,
        false_accept=0.4,
        patients=20_000,
        positive_controls=20_000,
        decoys=20_000,
    )
    assert judged.of("draft").appropriate.mean() == pytest.approx(0.65, abs=0.01)
    assert judged.of("draft").approved.mean() == pytest.approx(0.65 * 0.97 + 0.35 * 0.4, abs=0.01)
    assert judged.of("positive_control").approved.mean() == pytest.approx(0.97, abs=0.005)
    assert judged.of("decoy").approved.mean() == pytest.approx(0.4, abs=0.015)
    assert judged.of("positive_control").appropriate.all()
    assert not judged.of("decoy").appropriate.any()


# --- the statistics in it -------------------------------------------------------------------------------------


def within(share: float, worlds: int = WORLDS) -> float:
    """Four binomial standard errors: what `worlds` worlds can tell a share from."""
    return 4 * sqrt(share * (1 - share) / worlds)


def test_intervals_cover(findings):
    for name, finding in findings.items():
        if name.startswith("coverage: "):
            assert abs(finding.value - 0.95) < within(0.95), name


def test_intervals_that_take_visits_for_patients_do_not_cover(findings):
    assert findings["coverage, visits drawn, not patients"].value < 0.9


def test_families_raise_few_false_alarms_and_uncorrected_tests_many(findings):
    for name in ("any of 7, max-T", "any of 7, max-T interval", "any of 7, Holm", "any of 28, max-T"):
        assert findings[f"false alarm: {name}"].value < 0.05 + within(0.05), name
    assert findings["false alarm: any of 7, no correction"].value > 0.15


def test_the_true_best_is_nearly_always_tied_with_the_best(findings):
    assert findings["true best is tied with the best"].value > 0.95


def test_most_of_the_winners_curse_is_taken_back(findings):
    raw, corrected = (findings[f"optimism of the best, {sort}"].value for sort in ("raw", "corrected"))
    assert raw > 0.6
    assert abs(corrected) < raw / 2


# --- the command ----------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_prints_what_it_writes_and_the_same_again(tmp_path):
    arguments = ["--worlds", "3", "--patients", "50", "--draws", "100", "--json"]
    one, other = (run(*arguments, str(tmp_path / name)) for name in ("a.json", "b.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert one.splitlines()[:-1] == other.splitlines()[:-1]
    content = json.loads((tmp_path / "a.json").read_text())
    assert [content[key] for key in ("made_by", "worlds", "patients", "draws", "seed")] == [
        "rxdraft simulate",
        3,
        50,
        100,
        0,
    ]
    for finding in content["findings"]:
        assert f"| {finding['name']} " in one


def test_a_broken_promise_says_no():
    lines = to_markdown(
        [Finding("a", 0.5, 0.01, (0.9, 1.0)), Finding("b", 0.89, 0.01, (0.9, 1)), Finding("c", 1.0, 0.1)]
    )
    assert [line.split("|")[5].strip() for line in lines.splitlines()[2:]] == ["NO", "yes", ""]
