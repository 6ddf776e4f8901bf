"""A checkpoint's lists written by another program: training's own prompts, read as written, nobody asked twice."""

from __future__ import annotations

import _thread
import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rxdraft
from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.domain import Admission, Diagnosis
from etl.errors import ConfigError
from etl.outside.ask import Limits
from etl.outside.firewall import Passage, Provenance
from etl.prompts import Outcome
from serving.batch import job
from serving.batch import predict as predicting
from serving.batch.predict import Elsewhere, Settings
from serving.batch.rows import Unanswered, left_out
from serving.recommendation import BusyError, LateError, Recommendation
from serving.recommenders.lists import Recommender
from serving.remote.engine import NOBODY, Questions
from serving.remote.recommender import RemoteRecommender, Server
from tests.etl.outside.fake_server import FakeServer, Reply, completion, failure
from tests.etl.outside.fixtures import plain_server as plain_server

CANARY = "canary 4711"
QUICK = Limits(concurrency=4, tries=3, give_up_after=3, first_wait_seconds=0.001)


def text_completion(text: str, tokens_in: int, finish_reason: str = "stop", model: str = "rxdraft") -> Reply:
    answer = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1_790_000_000,
        "model": model,
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": 5, "total_tokens": tokens_in + 5},
    }
    return 200, {}, json.dumps(answer).encode()


class FakeEngine:
    """What a server does with a question: reads it as ids or with its template, and has `write` answer the ids."""

    def __init__(self, server: FakeServer, tokenizer: Any) -> None:
        self.server, self.url, self._tokenizer = server, server.url, tokenizer
        self.write: Callable[[list[int]], Reply | str] = lambda ids: "none"
        self.takes_ids, self.more_tokens = True, 0
        self.asked: list[list[int]] = []
        self.bodies: list[dict[str, Any]] = []
        self._nobody = prompts.encode(tokenizer, NOBODY)
        self._lock = threading.Lock()
        server.probe_is_easy = False
        server.answer = self._answer

    def _answer(self, body: dict[str, Any]) -> Reply:
        if "prompt" in body and not self.takes_ids:
            return failure(400)
        ids = body["prompt"] if "prompt" in body else self._read(body)
        if ids != self._nobody:
            with self._lock:
                self.asked.append(ids)
                self.bodies.append(body)
        said = self.write(ids) if ids != self._nobody else "none"
        if not isinstance(said, str):
            return said
        tokens_in = len(ids) + self.more_tokens
        if "prompt" in body:
            return text_completion(said, tokens_in)
        status, headers, content = completion(said, model="rxdraft")
        return status, headers, content.replace(b'"prompt_tokens": 100', b'"prompt_tokens": %d' % tokens_in)

    def _read(self, body: dict[str, Any]) -> list[int]:
        told = body["chat_template_kwargs"]
        return list(
            self._tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=False, **told)
        )


@pytest.fixture
def engine(plain_server: FakeServer, recommender: Recommender) -> FakeEngine:
    return FakeEngine(plain_server, recommender.engine.tokenizer)


@pytest.fixture
def writing(engine: FakeEngine, recommender: Recommender) -> FakeEngine:
    """An engine that serves the checkpoint."""

    def write(ids: list[int]) -> str:
        [found] = recommender.engine.generate([ids], recommender.adapter, recommender.manifest.max_answer_tokens)
        return found.text

    engine.write = write
    return engine


@pytest.fixture
def connect(checkpoint: Path, engine: FakeEngine) -> Iterator[Callable[..., RemoteRecommender]]:
    made: list[RemoteRecommender] = []

    def connected(**settings: Any) -> RemoteRecommender:
        passage = Passage(Provenance.CREDENTIALED, engine.url, local=True)
        made.append(RemoteRecommender(checkpoint, Server(passage, "rxdraft", limits=QUICK, **settings)))
        return made[-1]

    yield connected
    for recommender in made:
        recommender.close()


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "train").head(6)


@pytest.fixture
def admissions(samples: pl.DataFrame) -> list[Admission]:
    return [to_admission(sample) for sample in samples.iter_rows(named=True)]


@pytest.fixture
def source(samples: pl.DataFrame, tmp_path: Path) -> Path:
    samples.write_parquet(tmp_path / "admissions.parquet")
    return tmp_path / "admissions.parquet"


def listed(raw: Recommendation, recommender: Recommender) -> Recommendation:
    known = set(recommender.vocabulary.formulary)
    return replace(raw, answer=replace(raw.answer, drugs=tuple(drug for drug in raw.answer.drugs if drug in known)))


@pytest.mark.parametrize("takes_ids", [True, False])
def test_an_engine_that_serves_the_checkpoint_drafts_what_the_checkpoint_writes(
    writing: FakeEngine, connect: Any, recommender: Recommender, admissions: list[Admission], takes_ids: bool
) -> None:
    writing.takes_ids = takes_ids
    remote = connect()
    assert remote.recommend(admissions) == [
        listed(raw, recommender) for raw in recommender.recommend(admissions, raw=True)
    ]
    encoded, _ = recommender.encode(admissions)
    assert sorted(writing.asked) == sorted(encoded)
    assert remote.identity.asked_in == ("ids" if takes_ids else "messages")
    assert all(body.get("temperature") == 0 for body in writing.bodies)


def test_the_identity_names_host_and_model_and_no_secret(engine: FakeEngine, connect: Any) -> None:
    told = connect().identity.model_dump()
    assert (told["endpoint"], told["served_as"]) == (engine.url.removeprefix("http://").removesuffix("/v1"), "rxdraft")
    assert "key" not in json.dumps(told)


@pytest.mark.parametrize("way", ["ids", "messages"])
def test_a_server_that_reads_a_question_otherwise_is_refused_before_any_patient(
    engine: FakeEngine, connect: Any, way: str
) -> None:
    engine.more_tokens = 1
    with pytest.raises(ConfigError, match=r"read a question of (\d+) tokens as \d+: its server has another") as error:
        connect(way=way)
    assert engine.asked == []
    assert "\n" not in str(error.value)


def test_a_server_without_usage_is_believed(engine: FakeEngine, connect: Any) -> None:
    engine.more_tokens = -len(engine._nobody)
    connect()


def test_drugs_of_no_formulary_are_left_out_and_counted(
    engine: FakeEngine, connect: Any, admissions: list[Admission]
) -> None:
    remote = connect()
    first, second = remote.vocabulary.formulary[:2]
    engine.write = lambda ids: f"{first}\nUnobtainium\n{second}\nunobtainium"
    [found] = remote.recommend(admissions[:1])
    assert found.answer.drugs == (first, second)
    assert found.answer.outcome == Outcome.OK_WITH_DUPLICATES
    assert left_out(found, remote.vocabulary) == 1


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (text_completion("heparin\naspi", 9, "length"), Outcome.TRUNCATED),
        (text_completion("", 9, "content_filter"), Outcome.REFUSAL),
        ("I'm sorry, I cannot do that", Outcome.REFUSAL),
        ("", Outcome.EMPTY),
        ("Here is what the patient should be given, in my opinion as a model of language:", Outcome.PROSE_ONLY),
    ],
)
def test_what_is_no_list_is_told_by_its_kind(
    engine: FakeEngine, connect: Any, admissions: list[Admission], said: Any, outcome: Outcome
) -> None:
    engine.write = lambda ids: said
    [found] = connect().recommend(admissions[:1])
    assert (found.answer.outcome, found.answer.drugs) == (outcome, ())


def test_a_busy_server_is_asked_again_and_a_row_it_never_answers_is_left(
    engine: FakeEngine, connect: Any, admissions: list[Admission], recommender: Recommender
) -> None:
    [[broken, busy, *_], _] = recommender.encode(admissions)
    tried = list[str]()

    def write(ids: list[int]) -> Reply | str:
        if ids == broken:
            return failure(500)
        if ids == busy and not tried:
            tried.append("once")
            return failure(429)
        return "none"

    engine.write = write
    remote = connect()
    found = remote.attempt(admissions)
    assert found[0] == Unanswered("server_error")
    assert [one.answer.outcome for one in found[1:]] == [Outcome.OK_EMPTY_LIST] * 5
    assert engine.asked.count(broken) == QUICK.tries
    with pytest.raises(BusyError, match="server_error"):
        remote.recommend(admissions[:1])


def test_a_question_too_long_for_the_server_is_no_answer_and_is_asked_again(
    engine: FakeEngine, connect: Any, admissions: list[Admission]
) -> None:
    engine.write = lambda ids: failure(400, "context_length_exceeded")
    remote = connect()
    assert remote.attempt(admissions[:1]) == [Unanswered("too_long")]
    engine.write = lambda ids: "none"
    assert remote.attempt(admissions[:1]) != [Unanswered("too_long")]


def test_an_interrupt_ends_what_is_under_way(engine: FakeEngine, connect: Any, admissions: list[Admission]) -> None:
    def write(ids: list[int]) -> str:
        _thread.interrupt_main()
        time.sleep(0.5)
        return "none"

    engine.write = write
    remote = connect()
    with pytest.raises(KeyboardInterrupt):
        remote.recommend(admissions)
    assert len(engine.asked) == QUICK.concurrency < len(admissions)


def test_a_dropped_diagnosis_is_dropped_from_the_messages_too(random_base: Path) -> None:
    questions = Questions(str(random_base))
    many = tuple(Diagnosis(title=f"Disease number {place}") for place in range(40))
    for admission in (Admission(diagnoses=many), Admission(diagnoses=many[:3], earlier_diagnoses=many)):
        whole = prompts.render_prompt(admission)
        room = len(questions.encode(whole)) - 100
        asked = questions.fit(whole, room, "")
        ids, dropped = prompts.encode_prompt(questions._tokenizer, whole, room)
        assert (questions.encode(asked.messages), asked.dropped) == (ids, dropped)
        assert dropped > 0


def test_a_base_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tokenizer; give --base"):
        Questions(str(tmp_path))


def test_many_single_drafts_are_those_of_a_file(writing: FakeEngine, connect: Any, admissions: list[Admission]) -> None:
    remote = connect()

    async def all_at_once() -> list[Recommendation]:
        return await asyncio.gather(*(remote.draft(admission, 60) for admission in admissions))

    assert asyncio.run(all_at_once()) == remote.recommend(admissions)


def test_a_single_draft_is_late_or_refused_as_a_drafter_promises(
    engine: FakeEngine, connect: Any, admissions: list[Admission], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, go_on = connect(), threading.Event()
    engine.write = lambda ids: "none" if go_on.wait(20) else ""
    with pytest.raises(LateError):
        asyncio.run(remote.draft(admissions[0], 0.2))
    go_on.set()
    engine.write = lambda ids: failure(503)
    with pytest.raises(BusyError, match="server_error"):
        asyncio.run(remote.draft(admissions[0], 60))
    monkeypatch.setattr("serving.remote.recommender.MOST_WAITING", 0)
    with pytest.raises(BusyError, match="under way"):
        asyncio.run(remote.draft(admissions[0], 60))
    with pytest.raises(ConfigError, match="without a diagnosis"):
        remote.recommend([Admission(diagnoses=())])


def quiet(done: int, total: int) -> None:
    pass


def settings(checkpoint: Path, source: Path, url: str, **more: Any) -> Settings:
    out = source.with_name("drafts.parquet")
    return Settings(checkpoint, source, out, "hadm_id", elsewhere=Elsewhere(url, "rxdraft", concurrency=1, **more))


def test_an_interrupted_run_asks_nothing_twice_that_was_answered(
    writing: FakeEngine, checkpoint: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PART", 4)
    asked, real = settings(checkpoint, source, writing.url, tries=1), writing.write
    writing.write = lambda ids: real(ids) if len(writing.asked) <= 2 else failure(401)
    with pytest.raises(ConfigError, match="every answer so far is kept"):
        predicting.predict(asked, quiet)
    assert not asked.out.exists()
    writing.write = real
    told = list[int]()
    assert predicting.predict(asked, lambda done, total: told.append(done)).drafted == 6
    assert told == sorted(told)
    assert set(told) == set(range(7))
    assert len(writing.asked) == 6 + 1
    assert len({tuple(ids) for ids in writing.asked}) == 6
    assert predicting.predict(asked, quiet).drafted == 6
    assert len(writing.asked) == 6 + 1
    assert [path.name for path in source.parent.iterdir() if path.name.startswith(".")] == []
    origin = json.loads(pl.read_parquet_metadata(asked.out)["rxdraft"])
    assert origin["model"]["asked_in"] == "ids"


def test_credentialed_admissions_stay_on_this_machine(checkpoint: Path, source: Path) -> None:
    asked = settings(checkpoint, source, "https://engine.example/v1")
    with pytest.raises(ConfigError, match=r"engine\.example is not on this machine and .* is credentialed data"):
        predicting.predict(asked, quiet)
    said = predicting.rehearse(asked)
    assert said.splitlines()[0] == "6 admissions, a request each, credentialed"
    assert "an affirmation to fill in and sign:" in said
    assert said.endswith("nothing was sent")
    open_ = replace(asked, elsewhere=Elsewhere("https://engine.example/v1", "rxdraft", open_data=True))
    assert "another machine, allowed" in predicting.rehearse(open_)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ray": "auto", "k": 4}, "leave out --ray, --k"),
        ({"all_probabilities": True}, "leave out --all-probabilities"),
        ({"model": Path("baseline:logistic")}, "baseline:logistic needs no engine"),
        ({"elsewhere": None, "workers": 2}, "--workers is how many models --ray has at work"),
    ],
)
def test_options_that_do_not_belong_together_are_one_line(
    checkpoint: Path, source: Path, more: dict[str, Any], said: str
) -> None:
    asked = replace(settings(checkpoint, source, "http://127.0.0.1:9/v1"), **more)
    with pytest.raises(ConfigError, match=said) as error:
        predicting.predict(asked, quiet)
    assert "\n" not in str(error.value)


def test_the_command_tells_what_the_engine_wrote_and_repeats_nothing_of_a_patient(
    engine: FakeEngine, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    source, out = tmp_path / "admissions.parquet", tmp_path / "drafts.parquet"
    pl.DataFrame({"diagnoses": [[CANARY], ["Heart failure"], []]}).write_parquet(source)
    engine.write = lambda ids: "unobtainium\nheparin\nheparin" if len(engine.asked) == 1 else "Here is the list:\na"
    options = ["--model", checkpoint, "--admissions", source, "--out", out, "--concurrency", "1"]
    options += ["--endpoint", engine.url, "--endpoint-model", "rxdraft"]
    monkeypatch.setattr(sys, "argv", ["rxdraft", "predict", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "drafted 2, refused 1: the column error says why, 1 answers were no list, 1 drugs" in printed.out
    assert CANARY not in printed.out + printed.err
    assert pl.read_parquet(out)["warnings"].to_list()[0].count("not_in_formulary") == 1
