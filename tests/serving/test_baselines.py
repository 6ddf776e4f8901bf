"""Baselines as recommenders: what each is, that none has seen the test split, and that one can be served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxdraft
from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Diagnosis
from etl.errors import ConfigError, ContractError
from etl.icd import categories
from etl.prompts import parse_answer
from serving.baselines import logistic
from serving.baselines.baseline import CUTS, Baseline, f1_sums
from serving.baselines.design import Visits, indicators, read_visits
from serving.baselines.fit import NAMES, fit
from serving.baselines.logistic import Logistic, LogisticHistory
from serving.baselines.pooled import Pooled, returns
from serving.baselines.service import BaselineRecommender, load_baseline
from tests.serving.served import drafted

REGRESSIONS = ["logistic", "logistic-history", "pooled"]
PROBABLE = [name for name in NAMES if name not in ("random", "previous")]


def visits_of(formulary: list[str], *visits: tuple[Admission, list[str]]) -> Visits:
    """Visits by hand, each another patient's."""
    lists = [drugs for _, drugs in visits]
    places = {drug: place for place, drug in enumerate(formulary)}
    lengths = np.array([len(drugs) for drugs in lists])
    admissions, ordered = tuple(admission for admission, _ in visits), indicators(lists, places)
    return Visits(tuple(formulary), admissions, ordered, lengths, np.arange(len(visits)))


def coded(*codes: str, **facts: object) -> Admission:
    return Admission(tuple(Diagnosis(code, 10) for code in codes), **facts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cohort(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort, copied: weights are kept within it."""
    return Path(shutil.copytree(tiny_cohort, tmp_path_factory.mktemp("baselines") / "cohort"))


@pytest.fixture(scope="module")
def splits(cohort: Path) -> dict[str, Visits]:
    formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    return {split: read_visits(read_samples(cohort, split), formulary) for split in ("train", "test")}


@pytest.fixture(scope="module")
def fitted(splits: dict[str, Visits]) -> dict[str, Baseline]:
    return {name: fit(name, splits["train"]) for name in NAMES}


@pytest.fixture(scope="module")
def recommender(cohort: Path) -> BaselineRecommender:
    return load_baseline("logistic", cohort)


# --- every baseline -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_lists_have_exactly_the_asked_lengths_and_no_repeat(name, fitted, splits):
    admissions = splits["test"].admissions
    most = len(fitted[name].formulary)
    lengths = [(7 * place) % (most + 1) for place in range(len(admissions) - 1)] + [most]
    lists = [draft.answer.drugs for draft in fitted[name].recommend(admissions, lengths)]
    assert [len(drugs) for drugs in lists] == lengths
    assert [len(set(drugs)) for drugs in lists] == lengths


@pytest.mark.parametrize("name", NAMES)
def test_an_admission_gets_the_same_draft_alone_and_among_others(name, fitted, splits, monkeypatch):
    admissions = splits["test"].admissions
    together = fitted[name].recommend(admissions)
    monkeypatch.setattr("serving.baselines.baseline.BATCH", 3)
    assert fitted[name].recommend(admissions) == together
    assert [fitted[name].recommend([admission])[0] for admission in admissions] == together


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_repeatable(name, fitted, splits):
    again = fit(name, splits["train"])
    assert np.array_equal(again.scores(splits["test"].admissions), fitted[name].scores(splits["test"].admissions))


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_written_as_a_model_would_have_written_it(name, fitted, splits):
    for draft in fitted[name].recommend(splits["test"].admissions):
        assert parse_answer(draft.text) == draft.answer


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_fall_along_the_list_and_are_the_scores(name, fitted, splits):
    admissions = splits["test"].admissions
    scores = fitted[name].scores(admissions)
    assert scores.shape == (len(admissions), len(fitted[name].formulary))
    assert scores.min() >= 0
    assert scores.max() <= 1
    for row, draft in zip(scores, fitted[name].recommend(admissions), strict=True):
        assert draft.probabilities == tuple(sorted(draft.probabilities, reverse=True))
        by_drug = dict(zip(fitted[name].formulary, row, strict=True))
        assert draft.probabilities == tuple(by_drug[drug] for drug in draft.answer.drugs)


@pytest.mark.parametrize("name", PROBABLE)
def test_the_chances_of_the_whole_formulary_are_the_scores_and_given_where_asked_for(name, fitted, splits):
    admissions = splits["test"].admissions
    drafts = fitted[name].recommend(admissions, chances=True)
    assert [draft.chances for draft in drafts] == [tuple(row) for row in fitted[name].scores(admissions).tolist()]
    assert [replace(draft, chances=None) for draft in drafts] == fitted[name].recommend(admissions)


@pytest.mark.parametrize("name", ["random", "previous"])
def test_a_copy_claims_no_probability(name, fitted, splits):
    drafts = fitted[name].recommend(splits["test"].admissions, chances=True)
    assert {(draft.probabilities, draft.chances) for draft in drafts} == {(None, None)}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_known_and_nobody_asking_are_no_error(name, fitted):
    assert fitted[name].recommend([]) == []
    [draft] = fitted[name].recommend([Admission(())], [5])
    assert len(draft.answer.drugs) == 5


@pytest.mark.parametrize("name", NAMES)
def test_without_a_training_admission_there_is_no_baseline(name):
    with pytest.raises(ConfigError, match="nothing to learn from"):
        fit(name, visits_of(["a"]))


def test_an_unknown_baseline_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"oracle is unknown.*random.*pooled"):
        fit("oracle", visits_of(["a"], (Admission(()), ["a"])))


def test_a_drug_that_training_did_not_know_is_never_drafted_but_counts_as_ordered():
    visits = visits_of(["a"], (Admission(()), ["a", "new"]))
    assert visits.lengths.tolist() == [2]
    assert visits.ordered.toarray().tolist() == [[1.0]]


# --- copies ---------------------------------------------------------------------------------------------


def test_random_gives_a_training_patients_whole_list(fitted, splits):
    train = splits["train"]
    given = {frozenset(np.array(train.formulary)[row > 0]) for row in train.ordered.toarray()}
    drafts = [frozenset(d.answer.drugs) for d in fitted["random"].recommend(splits["test"].admissions)]
    assert set(drafts) <= given
    assert len(set(drafts)) > 1


def test_random_fills_a_short_list_with_the_commonest(fitted, splits):
    admission = splits["test"].admissions[0]
    [own], [longer] = (fitted["random"].recommend([admission], n) for n in (None, [len(splits["train"].formulary)]))
    copied, filled = longer.answer.drugs[: len(own.answer.drugs)], longer.answer.drugs[len(own.answer.drugs) :]
    assert copied == own.answer.drugs
    assert filled == tuple(drug for drug in fitted["random"].formulary if drug not in copied)


def test_previous_copies_the_commonest_first_then_the_unlisted_then_fills_up():
    training = visits_of(["a", "b", "c"], (Admission(()), ["a", "b"]), (Admission(()), ["a", "c"]))
    baseline = fit("previous", training)
    [draft] = baseline.recommend([Admission((), previous_drugs=("zz", "c", "b"))], [4])
    assert draft.answer.drugs == ("b", "c", "zz", "a")
    [own] = baseline.recommend([Admission((), previous_drugs=("zz", "c", "b"))])
    assert own.answer.drugs == ("b", "c", "zz")
    a, b, c = baseline.scores([Admission((), previous_drugs=("c", "b"))])[0]
    assert (b, c) == (1.5, 1.5)  # in the order of popularity, also where a score is read and no list
    assert a < 1
    for nothing in (None, ()):
        [none] = baseline.recommend([Admission((), previous_drugs=nothing)])
        assert none.answer.drugs == ("a", "b")  # of the usual length


# --- counting -------------------------------------------------------------------------------------------


def test_popularity_is_the_formulary_from_its_top(fitted, splits):
    [draft] = fitted["popularity"].recommend(splits["test"].admissions[:1], [9])
    assert draft.answer.drugs == splits["train"].formulary[:9]


def test_a_chapters_popularity_leans_on_everybodys_as_five_visits_do():
    training = visits_of(["a", "b"], (coded("I50"), ["a"]), (coded("I10", "N18"), ["a", "b"]), (coded("N17"), ["b"]))
    heart = (np.array([2, 1]) + 5 * np.array([2, 2]) / 3) / (2 + 5)
    kidney = (np.array([1, 2]) + 5 * np.array([2, 2]) / 3) / (2 + 5)
    scores = fit("popularity-by-chapter", training).scores([coded("I21"), coded("I21", "I48", "N39"), coded("C50")])
    assert scores == pytest.approx(np.array([heart, (heart + kidney) / 2, [2 / 3, 2 / 3]]))


def test_nearest_neighbours_vote_as_the_definition_says(fitted, splits):
    """k = 20 by Jaccard of category sets, weighted votes, 0.001 of popularity: written out with sets."""
    train, popularity = splits["train"], splits["train"].popularity
    sets = [categories(admission.diagnoses) for admission in train.admissions]
    ordered = train.ordered.toarray()
    for admission in splits["test"].admissions:
        asked = categories(admission.diagnoses)
        similar = np.array([len(asked & other) / len(asked | other) for other in sets])
        threshold = np.sort(similar)[-20]
        if (similar == threshold).sum() + (similar > threshold).sum() != 20:
            continue  # a tie for the last place may fall either way
        weights = np.where(similar >= threshold, similar, 0)
        votes = weights @ ordered / weights.sum()
        expected = (votes + 1e-3 * popularity) / (1 + 1e-3)
        assert fitted["knn"].scores([admission])[0] == pytest.approx(expected)


def test_where_nobody_is_alike_neighbours_are_everybody(fitted, splits):
    [scores] = fitted["knn"].scores([coded("U07")])
    assert scores == pytest.approx(splits["train"].popularity)


# --- logistic regression --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logistic", "logistic-history"])
def test_logistic_is_scikit_learns_on_plain_features(name, fitted, splits):
    from sklearn.linear_model import LogisticRegression

    train, asked = splits["train"], splits["test"].admissions

    def names(admission: Admission) -> set[str]:
        had = {f"had {drug}" for drug in admission.previous_drugs or ()} if name == "logistic-history" else set()
        return categories(admission.diagnoses) | had

    columns = sorted(set().union(*map(names, train.admissions)))
    age = np.mean([admission.age for admission in train.admissions])

    def features(admissions):
        return np.array(
            [[c in names(a) for c in columns] + [(a.age or age) / 100, a.sex == "M"] for a in admissions], dtype=float
        )

    learnt, wanted = features(train.admissions), features(asked)
    ordered, scores = train.ordered.toarray(), fitted[name].scores(asked)
    for place, drug in list(enumerate(train.formulary))[::6]:
        if ordered[:, place].sum() < 3:
            assert scores[:, place] == pytest.approx(train.popularity[place]), drug
        else:
            model = LogisticRegression(C=0.1, max_iter=1000).fit(learnt, ordered[:, place])
            expected = model.predict_proba(wanted)[:, 1]
            assert scores[:, place] == pytest.approx(expected, abs=1e-6), drug


def test_a_drug_that_every_training_admission_had_keeps_its_popularity():
    training = visits_of(["a"], *[(coded("I50"), ["a"])] * 4)
    assert fit("logistic", training).scores([coded("I50")]).tolist() == [[1.0]]


def test_unknown_age_and_sex_stand_at_the_training_mean():
    ages = (30, 50, 70, 90)
    training = visits_of(
        ["a"], *[(coded("I50", age=age, sex="F"), ["a"] if age > 40 else []) for age in ages for _ in range(3)]
    )
    baseline = fit("logistic", training)
    [unknown], [mean], [old] = (
        baseline.scores([coded("I50", age=age, sex=sex)]) for age, sex in ((None, None), (60, "F"), (90, "F"))
    )
    assert unknown == pytest.approx(mean)
    assert old > mean


@pytest.mark.parametrize(("name", "changes"), [("logistic", False), ("logistic-history", True), ("pooled", True)])
def test_history_changes_the_drafts_of_those_that_go_by_it(name, changes, fitted, splits):
    admission = next(a for a in splits["train"].admissions if a.previous_drugs)
    known, bare = fitted[name].scores([admission, replace(admission, previous_drugs=None)])
    assert np.array_equal(known, bare) != changes


# --- one regression over all drugs ----------------------------------------------------------------------


def test_pooled_is_one_regression_over_facts_from_fits_on_other_patients(fitted, splits):
    from scipy.special import expit, logit
    from sklearn.linear_model import LogisticRegression

    def facts(learnt: Visits, admissions: tuple[Admission, ...]) -> np.ndarray:
        """Seven facts of each admission and drug, one pair after the other."""
        dx = set().union(*(categories(admission.diagnoses) for admission in learnt.admissions))
        odds = lambda chance: logit(min(max(chance, 0.001), 0.999))  # noqa: E731
        again, rows = returns(learnt), []
        for admission, scores in zip(admissions, fit("logistic-history", learnt).scores(admissions), strict=True):
            for place, drug in enumerate(learnt.formulary):
                had, first = drug in (admission.previous_drugs or ()), odds(scores[place])
                history = [had, had * first, had * odds(again[place]), admission.previous_drugs is not None]
                size = np.log(1 + len(categories(admission.diagnoses) & dx))
                rows.append([first, odds(learnt.popularity[place]), *history, size])
        return np.array(rows, dtype=float)

    train = splits["train"]
    one, two = np.array_split(np.random.default_rng(0).permutation(np.unique(train.subjects)), 2)
    learnt, ordered = [], []
    for fitted_on, asked in ((two, one), (one, two)):
        held = train.part(np.isin(train.subjects, asked))
        learnt.append(facts(train.part(np.isin(train.subjects, fitted_on)), held.admissions))
        ordered.append(held.ordered.toarray().ravel())
    model = LogisticRegression(max_iter=1000).fit(np.concatenate(learnt), np.concatenate(ordered))
    asked = splits["test"].admissions
    expected = expit(model.decision_function(facts(train, asked))).reshape(len(asked), -1)
    assert fitted["pooled"].scores(asked) == pytest.approx(expected, abs=1e-6)


def test_what_was_learnt_of_a_patient_by_heart_is_not_trusted():
    """Every patient has a disease of their own, and three times the same drugs, drawn without regard to anything."""
    draw = np.random.default_rng(0)
    visits = []
    for patient in range(40):
        drugs = [drug for drug in "abcdef" if draw.random() < 0.5]
        visits += [(coded(f"A{patient:02}"), drugs)] * 3
    training = replace(visits_of(list("abcdef"), *visits), subjects=np.arange(120) // 3)
    first, pooled = (fit(name, training).scores(training.admissions) for name in ("logistic-history", "pooled"))
    assert pooled.std() < 0.5 * first.std()


def test_a_drug_returns_as_often_as_it_was_ordered_again_leaning_on_all_as_five_visits_do():
    had = lambda *drugs: Admission((), previous_drugs=drugs)  # noqa: E731
    training = visits_of(["a", "b", "c"], (had("a", "b", "zz"), ["a"]), (had("a"), ["a", "b"]), (Admission(()), ["a"]))
    assert returns(training) == pytest.approx(np.array([2 + 5 * 2 / 3, 0 + 5 * 2 / 3, 5 * 2 / 3]) / [7, 6, 5])


def test_with_a_single_patient_pooled_is_logistic_history(splits):
    training = replace(splits["train"], subjects=np.zeros_like(splits["train"].subjects))
    asked = splits["test"].admissions
    first, pooled = (fit(name, training).scores(asked) for name in ("logistic-history", "pooled"))
    assert pooled == pytest.approx(np.clip(first, 0.001, 0.999))


def test_pooled_learns_from_no_more_pairs_than_fit_into_memory(splits, monkeypatch, caplog):
    drugs = len(splits["train"].formulary)
    monkeypatch.setattr("serving.baselines.pooled.PAIRS", 10 * drugs + 1)
    with caplog.at_level("INFO", logger="serving.baselines.pooled"):
        fit("pooled", splits["train"])
    assert f"one regression on {10 * drugs} pairs" in caplog.text


def test_a_diagnosis_that_pooled_cannot_use_changes_no_score(fitted, splits):
    admission = splits["test"].admissions[0]
    more = replace(admission, diagnoses=(*admission.diagnoses, Diagnosis("U99", 10), admission.diagnoses[0]))
    assert np.array_equal(*fitted["pooled"].scores([admission, more]))


# --- weights kept ---------------------------------------------------------------------------------------


@pytest.fixture
def no_fitting(monkeypatch):
    def refuse(*_):
        raise AssertionError("fitted again")

    return lambda: monkeypatch.setattr(logistic, "fit_weights", refuse)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_kept_weights_are_read_back_instead_of_fitted(name, splits, fitted, tmp_path, no_fitting):
    fit(name, splits["train"], keep=tmp_path)
    no_fitting()
    again = fit(name, splits["train"], keep=tmp_path)
    assert np.array_equal(again.scores(splits["test"].admissions), fitted[name].scores(splits["test"].admissions))


def test_weights_of_other_training_admissions_are_not_used(splits, tmp_path, no_fitting):
    fit("logistic", splits["train"], keep=tmp_path)
    no_fitting()
    with pytest.raises(AssertionError, match="fitted again"):
        fit("logistic", splits["test"], keep=tmp_path)


def test_a_damaged_file_of_weights_is_made_anew_with_the_same_bytes(splits, tmp_path):
    fit("logistic", splits["train"], keep=tmp_path)
    path = tmp_path / "logistic.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    fit("logistic", splits["train"], keep=tmp_path)
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_the_baseline_is_there_all_the_same(splits, tmp_path, caplog):
    (tmp_path / "baselines").write_text("a file where the folder should be")
    with caplog.at_level("WARNING"):
        assert fit("logistic", splits["train"], keep=tmp_path / "baselines").formulary
    assert "is not kept" in caplog.text


# --- a regression as a file -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_was_saved_drafts_what_was_fitted_and_saves_the_same_bytes(name, fitted, splits, tmp_path):
    fitted[name].save(tmp_path / "one")
    again = type(fitted[name]).load(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    asked = [*splits["test"].admissions, coded("U99"), Admission(())]
    assert again.recommend(asked, chances=True) == fitted[name].recommend(asked, chances=True)


@pytest.mark.parametrize("kind", [Logistic, LogisticHistory, Pooled])
def test_a_file_that_is_not_the_saved_regression_is_refused_in_one_line(kind, fitted, splits, tmp_path):
    other = "logistic" if kind is not Logistic else "pooled"
    fit("logistic", splits["test"], keep=tmp_path)  # kept weights are no whole regression
    fitted[kind.name].save(tmp_path / "whole")
    fitted[other].save(tmp_path / "other")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-1])
    for file, said in {
        "other": f"is a {other} of format 1, wanted a {kind.name} of format 1",
        "cut": "is no regression that was saved",
        "absent": "is no regression that was saved",
        "logistic.safetensors": "is no regression that was saved",
    }.items():
        with pytest.raises(ContractError, match=f"^[^\n]*{file} {said}; make it again$"):
            kind.load(tmp_path / file)


# --- the cut --------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_f1_at_every_cut_is_that_of_the_lists_it_gives(seed):
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 101, (5, 7)) / 100  # on the cuts themselves, where equality decides
    truth = draw.random((5, 7)) < 0.4
    lengths = truth.sum(axis=1) + draw.integers(1, 3, 5)
    expected = [
        sum(2 * (truth[v] & (scores[v] >= cut)).sum() / ((scores[v] >= cut).sum() + lengths[v]) for v in range(5))
        for cut in CUTS
    ]
    assert f1_sums(scores, truth, lengths) == pytest.approx(expected)


def test_the_cut_is_chosen_on_validation_and_decides_the_length(splits):
    baseline = fit("logistic", splits["train"], splits["test"])
    scores, truth = baseline.scores(splits["test"].admissions), splits["test"].ordered.toarray() > 0
    sums = f1_sums(scores, truth, splits["test"].lengths)
    assert sums[round(baseline.cut * 100) - 1] == sums.max()
    drafts = baseline.recommend(splits["test"].admissions)
    assert [len(d.answer.drugs) for d in drafts] == (scores >= baseline.cut).sum(axis=1).tolist()
    assert all(min(d.probabilities, default=1) >= baseline.cut for d in drafts)


def test_without_validation_a_list_has_the_median_length_of_training(fitted, splits):
    [draft] = fitted["logistic"].recommend(splits["test"].admissions[:1])
    assert len(draft.answer.drugs) == round(np.median(splits["train"].lengths))


# --- no leak --------------------------------------------------------------------------------------------


def test_what_the_test_split_holds_changes_no_score(cohort, splits, tmp_path):
    other = Path(shutil.copytree(cohort, tmp_path / "cohort", ignore=shutil.ignore_patterns("baselines")))
    samples = pl.read_parquet(other / "samples.parquet")
    nonsense = pl.when(pl.col("split") == "test").then(pl.lit(["heparin"])).otherwise(pl.col("drugs"))
    samples.with_columns(nonsense.alias("drugs")).write_parquet(other / "samples.parquet")
    for name in NAMES:
        one, two = (load_baseline(name, folder).baseline for folder in (cohort, other))
        assert one.cut == two.cut
        assert np.array_equal(one.scores(splits["test"].admissions), two.scores(splits["test"].admissions))


# --- as the service asks it -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def request_body(cohort: Path) -> dict:
    sample = read_samples(cohort, "test").row(0, named=True)
    diagnoses = [{"icd_code": d["icd_code"], "icd_version": d["icd_version"]} for d in sample["diagnoses"]]
    return {"diagnoses": diagnoses, "age": sample["age"], "sex": sample["sex"]}


def draft_of(recommender: BaselineRecommender, body: dict) -> dict:
    from serving.schemas import DraftRequest, make_list

    admission = DraftRequest.model_validate(body).to_admission(recommender.vocabulary)
    [recommendation] = recommender.recommend([admission])
    return make_list(admission, recommendation, recommender).model_dump()


def test_a_title_in_words_is_as_good_as_its_code(recommender, request_body):
    titles = recommender.vocabulary.titles
    words = [{"text": titles[d["icd_code"], d["icd_version"]].upper()} for d in request_body["diagnoses"]]
    assert draft_of(recommender, {**request_body, "diagnoses": words}) == draft_of(recommender, request_body)


def test_a_diagnosis_that_could_not_be_used_is_warned_of_at_its_place(recommender, request_body):
    unusable = [{"text": "feels unwell"}, {"icd_code": "U99", "icd_version": 10}]
    body = {**request_body, "diagnoses": [*request_body["diagnoses"], *unusable]}
    draft, known = draft_of(recommender, body), len(request_body["diagnoses"])
    places = [w["position"] for w in draft["warnings"] if w["code"] == "diagnosis_not_used"]
    assert places == [known + 1, known + 2]
    assert draft["drugs"] == draft_of(recommender, request_body)["drugs"]


def test_an_admission_without_diagnosis_is_refused(recommender):
    with pytest.raises(ConfigError, match="wanted at least one"):
        recommender.recommend([Admission(())])


@pytest.mark.parametrize("name", ["logistic", "previous"])
def test_the_evaluations_admissions_and_a_requests_get_the_same_draft(name, cohort):
    recommender = load_baseline(name, cohort)
    admissions = [to_admission(sample) for sample in read_samples(cohort, "test").iter_rows(named=True)]
    assert recommender.recommend(admissions) == recommender.baseline.recommend(admissions, chances=True)


# --- the real process -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(cohort: Path, request_body: dict, tmp_path_factory: pytest.TempPathFactory) -> httpx2.Response:
    """The answer of `rxdraft serve --model baseline:logistic` over a real connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "rxdraft", "serve", "--model", "baseline:logistic", "--data", str(cohort)]
    folder = tmp_path_factory.mktemp("served")
    options = ["--port", str(port), "--dev", "--store", str(folder / "store.sqlite3")]
    cache = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    with (
        (folder / "output.txt").open("wb") as file,
        subprocess.Popen([*command, *options], stdout=file, stderr=file, env=cache) as run,
    ):
        try:
            for _ in range(300):
                try:
                    if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                time.sleep(0.1)
            return httpx2.post(f"http://127.0.0.1:{port}/v1/drafts", json=request_body)
        finally:
            run.send_signal(signal.SIGTERM)


def test_a_baseline_answers_over_http_with_its_name_and_its_probabilities(served, cohort, recommender):
    assert served.status_code == 200
    draft = served.json()
    assert draft["model"] == recommender.identity.model_dump()
    assert draft["model"]["name"] == "baseline:logistic"
    assert draft["answer"] == {"well_formed": True, "outcome": "ok"}
    named = {"item_id", "rank", "drug", "ingredients", "atc", "probability"}
    assert all(drug.keys() - {"evidence"} == named for drug in draft["drugs"])


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rxdraft", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    return int(ended.value.code or 0)


def test_recommend_gives_what_the_server_gives(served, cohort, request_body, tmp_path, monkeypatch, capsys):
    (tmp_path / "admission.json").write_text(json.dumps(request_body))
    options = ["--model", "baseline:logistic", "--data", cohort, "--json", tmp_path / "admission.json"]
    assert run_here(monkeypatch, "recommend", *options) == 0
    assert json.loads(capsys.readouterr().out) == drafted(served.json())


def test_a_baseline_writes_nothing_so_raw_is_refused(cohort, request_body, tmp_path, monkeypatch, capsys):
    (tmp_path / "admission.json").write_text(json.dumps(request_body))
    options = ["--model", "baseline:logistic", "--data", cohort, "--json", tmp_path / "admission.json", "--raw"]
    assert run_here(monkeypatch, "recommend", *options) == 2
    assert capsys.readouterr().err == "rxdraft: --raw is what a model writes, and this one scores drugs; leave it out\n"


def test_a_baseline_is_served_without_loading_a_models_libraries(cohort):
    code = (
        "import sys, pathlib; import serving.app; from serving.loading import loader;"
        "loader(pathlib.Path('baseline:knn'), None, pathlib.Path(sys.argv[1]))(); "
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cohort)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "baseline:oracle", "--data", "COHORT"], "wanted one of random"),
        (["--model", "baseline:knn"], "--data"),
        (["--model", "baseline:knn", "--data", "COHORT", "--k", "3"], "leave --k out"),
        (["--model", "baseline:knn", "--data", "COHORT", "--base", "x"], "no base"),
        (["--model", "baseline:knn", "--data", "nowhere"], "nowhere"),
        (["--model", "runs/rank-2", "--data", "COHORT"], "no baseline"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "recommend"])
def test_a_users_mistake_is_one_line(command, options, said, cohort, request_body, tmp_path, monkeypatch, capsys):
    (tmp_path / "admission.json").write_text(json.dumps(request_body))
    given = [str(cohort) if option == "COHORT" else option for option in options]
    asked = ["--json", tmp_path / "admission.json"] if command == "recommend" else []
    assert run_here(monkeypatch, command, *given, *asked) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err
