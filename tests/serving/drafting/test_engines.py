"""Several models by name, and an engine elsewhere that fails, is left alone, and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from etl.domain import Admission, Diagnosis
from etl.errors import ConfigError
from serving.baselines.service import BaselineRecommender, load_baseline
from serving.drafting.breaker import Breaker, EngineDownError
from serving.drafting.engines import Engines, Loading, ModelNotReadyError, UnknownModelError
from serving.operation import metrics
from serving.recommendation import BusyError, LateError, NoReplyError, Recommendation
from tests.serving.served import served

SOMEBODY = Admission((Diagnosis("I509", 10),))
BODY = {"diagnoses": [{"icd_code": "I50.9", "icd_version": 10}]}


class Elsewhere:
    """A baseline in the place of an engine elsewhere: it raises what it is told to."""

    server = "elsewhere"

    def __init__(self, recommender: BaselineRecommender) -> None:
        self.vocabulary, self.identity, self._recommender = recommender.vocabulary, recommender.identity, recommender
        self.error: Exception | None = None
        self.asked = 0

    def recommend(self, admissions: Any) -> list[Recommendation]:
        return self._recommender.recommend(admissions)

    async def draft(self, admission: Admission, seconds: float) -> Recommendation:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return await self._recommender.draft(admission, seconds)


@pytest.fixture(scope="module")
def baseline(tiny_cohort: Path) -> BaselineRecommender:
    return load_baseline("popularity", tiny_cohort)


def loaded(*drafters: Any, **options: Any) -> Engines:
    engines = Engines(
        [Loading((f"model-{place}",), lambda drafter=drafter: [drafter]) for place, drafter in enumerate(drafters)],
        **options,
    )
    engines.load()
    return engines


def ask(engines: Engines, name: str | None = None, seconds: float = 5) -> Recommendation:
    return asyncio.run(engines.draft(name, SOMEBODY, seconds))


def test_a_model_is_asked_by_its_name_and_the_first_by_none(baseline, tiny_cohort):
    other = load_baseline("knn", tiny_cohort)
    engines = loaded(baseline, other)
    assert ask(engines) == ask(engines, "model-0") == baseline.recommend([SOMEBODY])[0]
    assert ask(engines, "model-1") == other.recommend([SOMEBODY])[0]
    with pytest.raises(UnknownModelError):
        ask(engines, "model-2")


def test_two_models_of_one_name_are_refused(baseline):
    with pytest.raises(ConfigError, match="distinct"):
        Engines([Loading(("a", "a"), lambda: [baseline, baseline])])


def test_a_model_that_cannot_be_loaded_is_told_and_never_asked(baseline):
    def fail() -> Any:
        raise OSError("disk gone")

    told: list[str] = []
    engines = Engines([Loading(("a",), fail)])
    engines.load(failed=lambda: told.append("failed"))
    assert (told, str(engines.error), engines.ready) == (["failed"], "disk gone", False)
    assert [engine.state for engine in engines.all()] == ["failed"]
    with pytest.raises(ModelNotReadyError):
        ask(engines)


@pytest.mark.parametrize("error", [NoReplyError("no answer"), LateError("late"), ConfigError("it refuses")])
def test_an_engine_elsewhere_that_fails_often_is_left_alone_and_tried_again(baseline, error):
    now, far = 0.0, Elsewhere(baseline)
    engines = loaded(far, breaker=lambda: Breaker(3, 10, clock=lambda: now))
    far.error = error
    for _ in range(3):
        with pytest.raises(LateError if isinstance(error, LateError) else EngineDownError):
            ask(engines)
    assert [engine.state for engine in engines.all()] == ["open"]
    with pytest.raises(EngineDownError):
        ask(engines)
    assert far.asked == 3
    now, far.error = 10.0, None
    assert ask(engines).answer.drugs
    assert [engine.state for engine in engines.all()] == ["ready"]


def test_the_metrics_tell_each_state_an_engine_comes_into(baseline):
    def shown() -> set[str]:
        lines = metrics.exposition()[0].decode().splitlines()
        return {line for line in lines if line.startswith('rxdraft_engine{model="told"') and line.endswith(" 1.0")}

    now, far = 0.0, Elsewhere(baseline)
    engines = Engines(
        [Loading(("told",), lambda: seen.append(shown()) or [far])], breaker=lambda: Breaker(1, 10, clock=lambda: now)
    )
    seen: list[set[str]] = []
    engines.load()
    seen.append(shown())
    far.error = NoReplyError("no answer")
    with pytest.raises(EngineDownError):
        ask(engines)
    seen.append(shown())
    now, far.error = 10.0, None
    ask(engines)
    states = ("loading", "ready", "open", "ready")
    assert [*seen, shown()] == [{f'rxdraft_engine{{model="told",state="{state}"}} 1.0'} for state in states]


def test_a_full_engine_is_no_failed_one(baseline):
    far = Elsewhere(baseline)
    engines = loaded(far, breaker=lambda: Breaker(1))
    far.error = BusyError("full")
    for _ in range(3):
        with pytest.raises(BusyError):
            ask(engines)
    assert [engine.state for engine in engines.all()] == ["ready"]


def test_a_late_answer_from_this_process_opens_no_circuit(baseline, monkeypatch):
    async def slow(admission: Admission, seconds: float) -> Recommendation:
        await asyncio.sleep(5)
        raise AssertionError("nobody waits so long")

    engines = loaded(baseline, breaker=lambda: Breaker(1))
    monkeypatch.setattr(baseline, "draft", slow)
    with pytest.raises(LateError):
        ask(engines, seconds=0.01)
    assert [engine.state for engine in engines.all()] == ["ready"]


def test_an_engine_that_is_down_takes_nothing_else_down(baseline):
    far = Elsewhere(baseline)
    with served(Engines([Loading(("far",), lambda: [far])], breaker=lambda: Breaker(1))) as client:
        far.error = NoReplyError("no answer")
        for _ in range(2):
            answer = client.post("/v1/drafts", json=BODY)
            assert (answer.status_code, answer.json()["code"]) == (503, "engine_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/models").json()["models"][0]["state"] == "open"
        assert client.post("/v1/icd", json={"q": "i50"}).json()["codes"]
        assert client.post("/v1/screen", json={"drugs": ["heparin"]}).status_code == 200
        assert client.get("/v1/drafts").json() == {"drafts": []}
