"""Baselines fold by fold: who is scored by whom, and the numbers on the demo."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from etl.build import build_cohort
from etl.errors import ConfigError, ContractError
from etl.settings import CohortSettings
from evaluation import cross_validation, demo_reference
from evaluation.baseline_commands import baselines
from evaluation.cross_validation import METRICS, Lengths, Row, best, cross_validate, read_everyone, to_markdown
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


def test_a_cut_is_chosen_on_patients_whom_neither_its_fit_nor_the_score_knows(samples, monkeypatch):
    seen = []

    def overheard(name, training, validation=None):
        seen.append((set(training.admissions), None if validation is None else set(validation.admissions)))
        return fit(name, training, validation)

    def scoring(baseline, test, labels, lengths):
        seen.append((baseline.cut, set(cross_validation.read_visits(test, ()).admissions)))
        return np.zeros(len(METRICS))

    monkeypatch.setattr(cross_validation, "fit", overheard)
    monkeypatch.setattr(cross_validation, "_score", scoring)
    cross_validate(samples, folds=3, shuffles=1, names=["popularity"], lengths=Lengths("own"))
    assert len(seen) == 9
    for (whole, _), (inner, choosing), (cut, scored) in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        assert choosing
        assert not inner & choosing
        assert inner | choosing == whole
        assert not whole & scored
        assert 0 < cut < 1


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


def test_the_reference_s_rows_stand_below_ours_and_the_best_of_ours_beside_its_bar():
    low, high = (Row(name, np.full((2, 6), value), 0.1) for name, value in (("knn", 0.1), ("previous", 0.5)))
    text = to_markdown([low, high], beside=True)
    assert "| reference: logistic regression " in text
    assert "0.472 ± 0.024" in text
    assert "reference" not in to_markdown([low, high])
    said = best([high, low])
    assert said.startswith("Best of ours: previous, precision 0.500 (above 0.472)")
    assert "Jaccard 0.500 (above 0.282)" in said
    assert "Jaccard 0.100 (not above 0.282)" in best([low])


def test_the_reference_is_no_row_beside_another_cohort(samples, tiny_cohort, capsys):
    assert not demo_reference.applies(samples)
    baselines(data=tiny_cohort, folds=2, shuffles=1, seed=0, length="own", with_previous=False)
    assert "reference" not in capsys.readouterr().out


# --- the open demo --------------------------------------------------------------------------------------

OURS = {
    "popularity": "popularity",
    "popularity-by-category": "frequency by ICD category",
    "knn": "20 nearest neighbours",
    "logistic": "logistic regression",
}
"""Our rows by the reference's names of the same methods."""


@pytest.fixture(scope="module")
def demo(mimic_demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "cohort"
    build_cohort(str(mimic_demo), folder, CohortSettings(drop=()))
    return read_everyone(folder)


@pytest.mark.demo_data
def test_on_the_demo_the_rows_are_the_references_within_fold_noise(demo):
    assert demo_reference.applies(demo)
    rows, reference = cross_validate(demo, shuffles=1, names=list(OURS)), demo_reference.read()
    assert set(OURS.values()) == set(reference)
    for name, found in ((row.name, scores(row)) for row in rows):
        for metric, (mean, deviation) in zip(demo_reference.METRICS, reference[OURS[name]], strict=True):
            # Both are means over folds: half a fold's deviation is more than two standard errors of ten folds.
            assert abs(found[metric] - mean) < deviation / 2 + 0.005, (name, metric, found[metric])


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
