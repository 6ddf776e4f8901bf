"""Explanations are what the recommender itself says without a fact: no more, no less, and none by chance."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import rxdraft
from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Diagnosis
from etl.icd import category
from etl.prompts import Answer, Outcome
from serving import explain as module
from serving.baselines.service import BaselineRecommender, load_baseline
from serving.drafting.engines import of_one
from serving.explain import AT_ONCE, DIAGNOSES, LEAST_DROP, REASONS, Reason, explain, explain_in_time, weighty
from serving.recommendation import BusyError, LateError, Recommendation
from tests.serving.served import drafted as as_drafted
from tests.serving.served import served as service

DRUGS = ("a", "b", "c")


@pytest.fixture(scope="module")
def cohort(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort, copied: weights are kept within it."""
    return Path(shutil.copytree(tiny_cohort, tmp_path_factory.mktemp("explain") / "cohort"))


@pytest.fixture(scope="module")
def logistic(cohort: Path) -> BaselineRecommender:
    return load_baseline("logistic", cohort)


@pytest.fixture(scope="module")
def admissions(cohort: Path) -> list[Admission]:
    return [to_admission(sample) for sample in read_samples(cohort, "test").iter_rows(named=True)]


class Weigher:
    """Scores three drugs by the sum of what each diagnosis is worth, and remembers what it was asked."""

    def __init__(self, worth: dict[str, Sequence[float]], seconds: float = 0) -> None:
        self.worth, self.seconds = worth, seconds
        self.vocabulary: Any = SimpleNamespace(formulary=DRUGS)
        self.identity: Any = None
        self.asked: list[Admission] = []
        self.waiting = self.most_waiting = 0
        self.error: Exception | None = None

    def recommend(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        self.asked += admissions
        return [self._one(admission) for admission in admissions]

    async def draft(self, admission: Admission, seconds: float) -> Recommendation:
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        await asyncio.sleep(self.seconds)
        self.waiting -= 1
        if self.error and len(self.asked) > 3:
            raise self.error
        return self.recommend([admission])[0]

    def _one(self, admission: Admission) -> Recommendation:
        facts = [d.icd_code or "" for d in (*admission.diagnoses, *(admission.earlier_diagnoses or ()))]
        facts += ["previous"] * bool(admission.previous_drugs)
        chances = np.clip(0.1 + sum((np.array(self.worth[fact]) for fact in facts), np.zeros(3)), 0, 1)
        return Recommendation(Answer(Outcome.OK, DRUGS), "", probabilities=tuple(chances), chances=tuple(chances))


def of(*codes: str, **facts: Any) -> Admission:
    return Admission(tuple(Diagnosis(code, 10) for code in codes), **facts)


def explained(recommender: Any, admission: Admission) -> module.Explanation:
    return explain(recommender, admission, recommender.recommend([admission])[0])


# --- what is named --------------------------------------------------------------------------------------


def test_what_is_named_is_what_the_regressions_coefficients_say(logistic, admissions):
    """p - p without i = σ(z) - σ(z - w_i), where no other diagnosis is of i's category; 0 where one is."""
    baseline, named = logistic.baseline, 0
    for admission in admissions:
        [drafted] = logistic.recommend([admission])
        z = baseline._features([admission]) @ baseline._weights[:-1] + baseline._weights[-1]
        kinds = [category(d.icd_code, d.icd_version) for d in admission.diagnoses]
        for drug, reasons in zip(drafted.answer.drugs, explain(logistic, admission, drafted).reasons, strict=True):
            place = baseline.formulary.index(drug)
            drops = np.zeros(len(kinds))
            for i, kind in enumerate(kinds):
                column = baseline._columns.get(f"dx {kind}")
                if place in baseline._fitted and column is not None and kinds.count(kind) == 1 and len(kinds) > 1:
                    [at] = np.flatnonzero(baseline._fitted == place)
                    drops[i] = round(expit(z[0, at]) - expit(z[0, at] - baseline._weights[column, at]), 3)
            best = sorted((i for i in range(len(kinds)) if drops[i] >= LEAST_DROP), key=lambda i: (-drops[i], i))
            assert reasons == tuple(Reason("diagnoses", i + 1, pytest.approx(drops[i])) for i in best[:REASONS])
            named += len(reasons)
    assert named > 20


worths = st.lists(st.integers(-8, 8).map(lambda n: n / 20), min_size=3, max_size=3)


@given(st.lists(worths, min_size=2, max_size=8))
def test_every_drop_is_what_asking_without_the_fact_gives(worth: list[list[float]]):
    codes = [f"A{place}" for place in range(len(worth))]
    weigher = Weigher(dict(zip(codes, worth, strict=True)))
    [whole] = weigher.recommend([of(*codes)])
    for place, reasons in enumerate(explained(weigher, of(*codes)).reasons):
        assert len(reasons) <= REASONS
        assert sorted(reasons, key=lambda reason: (-reason.drop, reason.position)) == list(reasons)
        told = {reason.position for reason in reasons}
        for position in range(1, len(codes) + 1):
            [less] = weigher.recommend([of(*codes[: position - 1], *codes[position:])])
            drop = round(whole.chances[place] - less.chances[place], 3)
            if position in told:
                assert [reason.drop for reason in reasons if reason.position == position] == [drop]
            else:
                assert drop < LEAST_DROP or (len(reasons) == REASONS and drop <= reasons[-1].drop)


@given(st.integers(0, 3), worths)
def test_a_diagnosis_without_which_no_score_changes_is_never_named(place: int, worth: list[float]):
    weigher = Weigher({"A": worth, "B": [0.3, 0.1, 0.2], "C": [0.1, 0.2, 0.3], "idle": [0, 0, 0]})
    plain = explained(weigher, of("A", "B", "C"))
    codes = ["A", "B", "C"]
    codes.insert(place, "idle")
    moved = [tuple(replace(r, position=r.position + (r.position > place)) for r in some) for some in plain.reasons]
    assert explained(weigher, of(*codes)).reasons == tuple(moved)


@given(st.lists(st.floats(-1e-7, 1e-7), min_size=5, max_size=5))
def test_facts_that_weigh_the_same_stay_in_their_order_whatever_the_last_bits(noise: list[float]):
    after = np.array([[0.6 + one] for one in noise])
    drops = weighty(np.array([0.9]), after, None)[:, 0]
    facts = [module.Fact("diagnoses", place) for place in range(1, 6)]
    assert [reason.position for reason in module._largest(facts, drops)] == [1, 2, 3]


def test_previous_drugs_are_one_fact_and_so_is_each_earlier_diagnosis():
    weigher = Weigher({"A": [0.1, 0, 0], "B": [0, 0.3, 0], "previous": [0, 0, 0.4]})
    earlier = (Diagnosis("B", 10),)
    found = explained(weigher, of("A", earlier_diagnoses=earlier, previous_drugs=("a", "b")))
    assert found.reasons == (
        (Reason("diagnoses", 1, 0.1),),
        (Reason("earlier_diagnoses", 1, 0.3),),
        (Reason("previous_drugs", None, 0.4),),
    )


def test_the_only_diagnosis_is_not_left_out_and_that_is_said():
    weigher = Weigher({"A": [0.5, 0, 0], "previous": [0, 0.2, 0]})
    found = explained(weigher, of("A", previous_drugs=("a",)))
    assert found.reasons == ((), (Reason("previous_drugs", None, 0.2),), ())
    assert [position for position, _ in found.gaps] == [1]
    assert explained(weigher, of("A")).reasons == ((), (), ())


def test_a_diagnosis_that_was_not_read_is_in_no_question():
    codes = ["A", "B", "C", "D"]
    weigher = Weigher({code: [0.2, 0, 0] for code in codes})
    [read] = weigher.recommend([of("A", "B")])
    weigher.asked.clear()
    found = explain(weigher, of(*codes), replace(read, dropped_diagnoses=2))
    assert [[d.icd_code for d in admission.diagnoses] for admission in weigher.asked] == [["B"], ["A"]]
    assert [reason.position for reason in found.reasons[0]] == [1, 2]
    weigher.asked.clear()
    late = replace(read, dropped_diagnoses=2)
    explain(weigher, of("A", "B", earlier_diagnoses=(Diagnosis("C", 10), Diagnosis("D", 10))), late)
    assert {admission.earlier_diagnoses for admission in weigher.asked} == {()}


def test_where_not_even_one_diagnosis_was_read_the_others_facts_are_still_left_out():
    weigher = Weigher({"A": [0, 0, 0], "B": [0, 0, 0], "previous": [0.3, 0, 0]})
    admission = of("A", "B", previous_drugs=("a",))
    found = explain(weigher, admission, replace(weigher._one(admission), dropped_diagnoses=2))
    assert found.reasons == ((Reason("previous_drugs", None, 0.3),), (), ())
    assert all(asked.diagnoses for asked in weigher.asked)


def test_three_hundred_diagnoses_cost_a_hundred_questions_and_that_is_said():
    codes = [f"A{place}" for place in range(300)]
    weigher = Weigher({code: [0.001, 0, 0] for code in codes})
    found = explain(weigher, of(*codes), weigher._one(of(*codes)))
    assert len(weigher.asked) == DIAGNOSES
    assert str(DIAGNOSES) in found.gaps[0][1]


def test_a_drug_outside_the_formulary_and_a_list_without_probabilities_are_not_explained():
    weigher = Weigher({"A": [0.3, 0, 0], "B": [0, 0, 0]})
    [drafted] = weigher.recommend([of("A", "B")])
    other = replace(drafted, answer=Answer(Outcome.OK, ("new", "a")))
    assert explain(weigher, of("A", "B"), other).reasons == (None, (Reason("diagnoses", 1, 0.3),))
    unknown = explain(weigher, of("A", "B"), replace(drafted, chances=None))
    assert unknown.reasons is None
    assert unknown.gaps


# --- votes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "samples"), [(0.5, 10), (0.9, 10), (0.8, 30)])
def test_what_only_the_draw_of_lists_made_is_seldom_named(chance, samples):
    draw, facts = np.random.default_rng(0), 12
    before = draw.binomial(samples, chance, 4000) / samples
    after = draw.binomial(samples, chance, (facts, 4000)) / samples
    assert (weighty(before, after, samples) > 0).any(axis=0).mean() < 0.06
    assert (weighty(before, after, None) > 0).any(axis=0).mean() > 0.3  # as it would be without the bound


def test_a_drop_far_beyond_the_draw_is_named():
    assert weighty(np.array([0.9]), np.array([[0.1], [0.7]]), 10)[:, 0] == pytest.approx([0.8, 0])


# --- checkpoints ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voting(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint that writes lists, asked for six of them."""
    from serving.probabilities.calibration import Calibration, Votes
    from serving.recommenders.lists import load_recommenders
    from training.manifest import read_manifest, write_manifest

    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("voting") / "checkpoint"))
    calibration = Calibration(votes=Votes(6, 1.0, 1.0)).to_json()
    write_manifest(folder, replace(read_manifest(folder), calibration=calibration))
    return load_recommenders([folder])[0]


@pytest.fixture(scope="module")
def scoring(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint with a label head of random weights."""
    import torch

    from serving.recommenders.lists import load_recommenders
    from training.checkpoint import weights_sha256
    from training.labels import LabelHead, save_head
    from training.manifest import read_manifest, write_manifest

    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("scoring") / "checkpoint"))
    drugs = pl.read_parquet(folder / "vocabulary" / "formulary.parquet").height
    draw, head = torch.Generator().manual_seed(0), LabelHead(64, drugs)
    with torch.no_grad():
        for weight in (head.query, head.value, head.whole):
            weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))
    save_head(head, folder / "adapter")
    manifest = replace(read_manifest(folder), objective="labels", weights_sha256=weights_sha256(folder / "adapter"))
    write_manifest(folder, manifest)
    return load_recommenders([folder])[0]


def test_a_model_that_scores_drugs_is_explained_by_what_it_says_without_each_fact(scoring, admissions):
    admission = max(admissions, key=lambda one: len(one.diagnoses))
    [drafted] = scoring.recommend([admission])
    found = explain(scoring, admission, drafted)
    assert asyncio.run(explain_in_time(scoring, admission, drafted, 60)) == found
    told = [(drug, reason) for drug, some in zip(drafted.answer.drugs, found.reasons, strict=True) for reason in some]
    assert told
    for drug, reason in told:
        place = scoring.vocabulary.formulary.index(drug)
        [other] = scoring.recommend([module.without(admission, module.Fact(reason.fact, reason.position))])
        assert drafted.chances[place] - other.chances[place] == pytest.approx(reason.drop, abs=0.0006)


def test_the_votes_of_a_model_that_writes_lists_are_known_to_be_few(voting, admissions, monkeypatch):
    [drafted] = voting.recommend(admissions[:1])
    less = replace(drafted, chances=tuple(max(chance - 0.33, 0) for chance in drafted.chances))
    monkeypatch.setattr(voting, "recommend", lambda asked: [less] * len(asked))
    assert not any(explain(voting, admissions[0], drafted).reasons)  # two votes of six are nothing
    monkeypatch.setattr(voting, "votes", None)
    assert any(explain(voting, admissions[0], drafted).reasons)


# --- among other requests -------------------------------------------------------------------------------


def test_in_time_is_as_at_once(logistic, admissions):
    for admission in admissions[:5]:
        [drafted] = logistic.recommend([admission])
        found = asyncio.run(explain_in_time(logistic, admission, drafted, 60))
        assert found == explain(logistic, admission, drafted)


def busy(seconds: float, error: Exception | None = None, within: float = 10) -> tuple[Weigher, module.Explanation]:
    codes = [f"A{place}" for place in range(40)]
    weigher = Weigher({code: [0.01, 0, 0] for code in codes}, seconds)
    weigher.error = error
    return weigher, asyncio.run(explain_in_time(weigher, of(*codes), weigher._one(of(*codes)), within))


def test_one_explanation_has_few_questions_waiting():
    weigher, found = busy(0.001)
    assert weigher.most_waiting == AT_ONCE
    assert found.gaps == ()


@pytest.mark.parametrize("error", [BusyError("full"), LateError("late")])
def test_a_busy_service_explains_nothing_and_says_so(error):
    weigher, found = busy(0, error)
    assert found.reasons is None
    assert "busy" in found.gaps[0][1]
    assert len(weigher.asked) < 10


def test_an_explanation_ends_with_its_time():
    weigher, found = busy(1, within=0.05)
    assert found.reasons is None
    assert weigher.asked == []


def test_a_bug_is_not_a_busy_service():
    with pytest.raises(ExceptionGroup):
        busy(0, RuntimeError("bug"))


# --- as the service and the command tell it -------------------------------------------------------------


@pytest.fixture(scope="module")
def request_body(cohort: Path) -> dict[str, Any]:
    sample = max(read_samples(cohort, "test").iter_rows(named=True), key=lambda sample: len(sample["diagnoses"]))
    diagnoses = [{"icd_code": d["icd_code"], "icd_version": d["icd_version"]} for d in sample["diagnoses"]]
    return {"diagnoses": diagnoses, "age": sample["age"], "sex": sample["sex"]}


@pytest.fixture(scope="module")
def counted(logistic: BaselineRecommender, request_body: dict[str, Any], tmp_path_factory: Any) -> BaselineRecommender:
    """The same baseline, where the principal diagnosis was counted for its commonest drug."""
    from serving.evidence import FILE, CohortEvidence

    first, folder = request_body["diagnoses"][0], tmp_path_factory.mktemp("evidence")
    row = (category(first["icd_code"], first["icd_version"]), logistic.baseline.formulary[0], 84, 120)
    pl.DataFrame([row], ["category", "drug", "ordered", "admissions"], orient="row").write_parquet(folder / FILE)
    vocabulary = replace(logistic.vocabulary, evidence=CohortEvidence(folder))
    return BaselineRecommender(logistic.baseline, vocabulary, logistic.identity)


@pytest.fixture(scope="module")
def served(counted: BaselineRecommender, request_body: dict[str, Any]) -> dict[bool, dict[str, Any]]:
    """Drafts without and with an explanation."""
    with service(lambda: counted) as client:
        answers = {told: client.post("/v1/drafts", json={**request_body, "explain": told}) for told in (False, True)}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {told: answer.json() for told, answer in answers.items()}


def test_an_explained_draft_is_the_same_draft_with_reasons(served):
    added = {"because"}
    bare = [{name: value for name, value in drug.items() if name not in added} for drug in served[True]["drugs"]]
    assert bare == served[False]["drugs"]
    named = {"item_id", "rank", "drug", "ingredients", "atc", "probability", "evidence", *added}
    assert all(drug.keys() == named for drug in served[True]["drugs"])
    assert any(drug["because"] for drug in served[True]["drugs"])
    reasons = [reason for drug in served[True]["drugs"] for reason in drug["because"]]
    assert all(reason.keys() == {"fact", "position", "drop"} for reason in reasons)
    assert {served[told]["probabilities"] for told in served} == {"uncalibrated"}


def test_evidence_is_the_cohorts_count(served, logistic, request_body):
    first = request_body["diagnoses"][0]
    name = category(first["icd_code"], first["icd_version"])
    found = {drug["drug"]: drug["evidence"] for drug in served[True]["drugs"]}
    commonest = logistic.baseline.formulary[0]
    assert found.pop(commonest) == {"category": name, "ordered": 84, "admissions": 120}
    assert {one["ordered"] for one in found.values()} == {0}


def test_the_command_tells_what_the_service_tells(cohort, request_body, tmp_path, monkeypatch, capsys):
    (tmp_path / "admission.json").write_text(json.dumps(request_body))
    options = ["--model", "baseline:logistic", "--data", str(cohort), "--json", str(tmp_path / "admission.json")]
    monkeypatch.setattr(sys, "argv", ["rxdraft", "recommend", *options, "--explain"])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    assert not ended.value.code
    recommender = load_baseline("logistic", cohort)
    with service(of_one(lambda: recommender, "baseline:logistic")) as client:
        answer = client.post("/v1/drafts", json={**request_body, "explain": True}).json()
    assert json.loads(capsys.readouterr().out) == as_drafted(answer)


@settings(max_examples=20)
@given(st.data())
def test_any_request_that_is_drafted_is_explained(counted, data):
    codes = sorted(code for code, _ in counted.vocabulary.titles)
    diagnosis = st.one_of(
        st.builds(
            lambda c, v: {"icd_code": c, "icd_version": v}, st.sampled_from([*codes, "ZZZ"]), st.sampled_from([9, 10])
        ),
        st.builds(lambda text: {"text": f"x{text}"}, st.text(max_size=5)),
    )
    body = {"diagnoses": data.draw(st.lists(diagnosis, min_size=1, max_size=12)), "previous_drugs": ["heparin"]}
    from serving.schemas import DraftRequest, make_list

    admission = DraftRequest.model_validate(body).to_admission(counted.vocabulary)
    [drafted] = counted.recommend([admission])
    draft = make_list(admission, drafted, counted, explain(counted, admission, drafted))
    for drug in draft.drugs:
        assert drug.because is not None
        assert all(reason.drop <= drug.probability + 0.001 for reason in drug.because)
