"""Baselines fold by fold: who is scored by whom, and the numbers on the demo."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from etl.build import build_cohort
from etl.errors import ConfigError, ContractError
from etl.settings import CohortSettings
from evaluation import cross_validation
from evaluation.baseline_commands import baselines
from evaluation.cross_validation import METRICS, Lengths, cross_validate, read_everyone, to_markdown
from serving.baselines.fit import NAMES, fit


@pytest.fixture(scope="module")
def samples(tiny_cohort):
    return read_everyone(tiny_cohort)


def scores(row) -> dict[str, float]:
    return dict(zip(METRICS, row.folds.mean(axis=0), strict=True))


def test_no_patient_is_scored_by_a_fit_that_knew_them(samples, monkeypatch):
    fitted, scored = [], []

    def overheard(name, training):
        fitted.append(training.admissions)
        return fit(name, training)

    def scoring(baseline, test, labels, lengths):
        scored.append(cross_validation.read_visits(test, ()).admissions)
        return np.zeros(len(METRICS))

    monkeypatch.setattr(cross_validation, "fit", overheard)
    monkeypatch.setattr(cross_validation, "_score", scoring)
    cross_validate(samples, folds=4, shuffles=2, names=["popularity"])
    everyone = list(cross_validation.read_visits(samples, ()).admissions)
    assert len(fitted) == len(scored) == 8
    for train, test in zip(fitted, scored, strict=True):
        assert not set(train) & set(test)
        assert len(train) + len(test) == len(everyone)
    assert sorted(map(repr, sum(scored[:4], ()))) == sorted(map(repr, everyone))  # each once a shuffle
    assert scored[:4] != scored[4:]


def test_the_same_seed_gives_the_same_scores_and_another_gives_others(samples):
    one, same, other = (cross_validate(samples, seed=seed, names=["knn"])[0].folds for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_one_list_by_hand():
    """Three patients who differ in their drugs alone; each gets the two that the other two had most often: a, b."""
    drugs = {1: ["a", "b"], 2: ["a", "b"], 3: ["a", "c"]}
    facts = {
        "subject_id": list(drugs),
        "drugs": list(drugs.values()),
        "diagnoses": [[{"icd_code": "I10", "icd_version": 10, "title": None}]] * 3,
        **dict.fromkeys(("earlier_diagnoses", "current_drugs", "previous_drugs", "age", "sex"), [None] * 3),
        **dict.fromkeys(("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg"), [None] * 3),
    }
    [row] = cross_validate(pl.DataFrame(facts), folds=3, shuffles=1, names=["popularity"])
    found = sorted(row.folds.tolist())
    # Patient 3 had a and c. Nobody else had c: it comes after a and b, which score alike.
    assert found[0] == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1 / 3, (1 / 2 + 2 / 3) / 2, 2])
    # Patients 1 and 2 had a and b. Of the others both had a, and one each b and c, which score alike.
    assert found[1] == found[2] == pytest.approx([1, 1, 1, 1, (1 + 2 / 3) / 2, 2])


@pytest.mark.parametrize(("rule", "expected"), [("3", [3, 3]), ("true", [4, 9]), ("median", [5, 5]), ("own", None)])
def test_lengths_are_as_the_rule_says(rule, expected):
    class Fitted:
        usual_length = 5

    assert Lengths(rule).of(Fitted(), np.array([4, 9])) == expected


@pytest.mark.parametrize("rule", ["0", "-1", "", "mean", "1.5"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ConfigError, match="wanted median, own, true or a number"):
        Lengths(rule)


@pytest.mark.parametrize("folds", [0, 1, 10_000])
def test_folds_that_cannot_be_dealt_are_refused(folds, samples):
    with pytest.raises(ConfigError, match="folds as patients"):
        cross_validate(samples, folds=folds)


def test_visits_without_a_previous_admission_can_be_left_out_of_the_scores(samples):
    [all_, some] = (
        scores(cross_validate(samples, names=["previous"], lengths=Lengths("own"), with_previous=only)[0])
        for only in (False, True)
    )
    assert some["precision"] > all_["precision"]


def test_the_command_prints_a_row_for_every_baseline(tiny_cohort, capsys):
    baselines(data=tiny_cohort, folds=2, shuffles=1, seed=0, length="5", with_previous=False)
    out, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == list(NAMES)
    assert {row[6] for row in rows[2:]} == {"5.0 ± 0.0"}
    assert "2 folds of patients" in out
    assert "baselines: " in err


def test_a_fold_without_a_visit_to_score_is_left_out_of_the_means():
    row = cross_validation.Row("previous", np.array([[0.5] * 6, [np.nan] * 6, [0.7] * 6]), 0.1)
    assert "0.600 ± 0.141" in to_markdown([row])


# --- the open demo --------------------------------------------------------------------------------------

REFERENCE = {
    # precision, recall, F1, Jaccard, PRAUC by the same protocol, each with its standard deviation over folds
    "popularity": ((0.445, 0.029), (0.414, 0.029), (0.406, 0.026), (0.261, 0.021), (0.430, 0.012)),
    "popularity-by-category": ((0.452, 0.029), (0.421, 0.030), (0.413, 0.027), (0.266, 0.022), (0.444, 0.013)),
    "knn": ((0.444, 0.023), (0.415, 0.025), (0.405, 0.020), (0.261, 0.016), (0.441, 0.015)),
    "logistic": ((0.472, 0.024), (0.438, 0.030), (0.430, 0.024), (0.282, 0.019), (0.476, 0.016)),
}
"""Measured by other code, of which only the protocol is known."""


@pytest.fixture(scope="module")
def demo(mimic_demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "cohort"
    build_cohort(str(mimic_demo), folder, CohortSettings(drop=()))
    return read_everyone(folder)


@pytest.mark.demo_data
def test_on_the_demo_the_rows_are_the_references_within_fold_noise(demo):
    assert (demo.height, demo["subject_id"].n_unique(), demo["drugs"].explode().n_unique()) == (250, 100, 551)
    rows = {row.name: scores(row) for row in cross_validate(demo, shuffles=1, names=list(REFERENCE))}
    for name, expected in REFERENCE.items():
        for metric, (mean, deviation) in zip(METRICS, expected, strict=False):
            # Both are means over folds: half a fold's deviation is more than two standard errors of ten folds.
            assert abs(rows[name][metric] - mean) < deviation / 2 + 0.005, (name, metric, rows[name][metric])


@pytest.mark.demo_data
def test_on_the_demo_copying_the_previous_list_beats_popularity(demo):
    previous, popular = (
        scores(row)
        for row in cross_validate(demo, names=["previous", "popularity"], lengths=Lengths("own"), with_previous=True)
    )
    assert previous["Jaccard"] == pytest.approx(0.341, abs=0.03)
    assert previous["PRAUC"] == pytest.approx(0.531, abs=0.03)
    assert popular["Jaccard"] == pytest.approx(0.258, abs=0.02)


def test_a_folder_that_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"cohort\.json is missing"):
        baselines(data=tmp_path, folds=5, shuffles=2, seed=0, length="median", with_previous=False)
