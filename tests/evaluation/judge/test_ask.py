"""Faults one by one, over real HTTP: each ends as a counted state, and none becomes a verdict."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.cohort import read_samples
from etl.errors import ConfigError, ContractError
from etl.outside.endpoint import Decoding
from evaluation.judge.judging import judge_units
from evaluation.judge.run import Settings
from tests.etl.outside.fake_server import FakeServer, Reply, completion, failure, is_probe
from tests.evaluation.judge.opinions import NO, OPINION, UNSURE, opinion, write_drafts


def first_then(first: Reply, then: Reply, times: int = 1) -> Callable[[dict[str, Any]], Reply]:
    """Answer every question so many times in one way, then in another."""
    seen: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> Reply:
        question = json.dumps(body["messages"])
        seen[question] += 1
        return first if seen[question] <= times else then

    return answer


def stored(settings: Settings, column: str = "state") -> Counter[str]:
    with sqlite3.connect(settings.ledger_path) as con:
        return Counter(row[0] for row in con.execute(f"SELECT {column} FROM verdict"))


def failed(settings: Settings) -> Counter[tuple[str, int | None]]:
    with sqlite3.connect(settings.ledger_path) as con:
        return Counter(con.execute("SELECT state, status FROM failure").fetchall())


@pytest.fixture
def few(settings: Settings) -> Settings:
    """One row with two drugs for each of twenty stays and no decoys: few questions, none twice."""
    stays = set(read_samples(settings.cohort, "train")["hadm_id"].head(STAYS))
    write_drafts(
        *(settings.evaluation, settings.cohort, "same"),
        lambda sample: ["aspirin", "heparin"] if sample["hadm_id"] in stays else [],
    )
    return replace(settings, rows=("same",), decoys=0.0)


STAYS, UNITS = 20, 40


# --- answers that are no verdict --------------------------------------------------------------------------

ERRORS = {
    "truncated": (completion('{"indication": "Y"', finish_reason="length"), "truncated"),
    "whole but truncated": (completion(json.dumps(OPINION), finish_reason="length"), "truncated"),
    "malformed": (completion("APPROPRIATE"), "malformed"),
    "empty": (completion(""), "malformed"),
    "no content": (completion(None), "malformed"),
    "no choice": ((200, {}, b'{"object": "chat.completion", "model": "judge-1-2026", "choices": []}'), "malformed"),
    "refusal": (completion(None, refusal="I cannot judge prescriptions."), "refusal"),
    "filtered": (completion(None, finish_reason="content_filter"), "content_filter"),
    "filtered before": (failure(400, "content_filter"), "content_filter"),
    "too long": (failure(400, "context_length_exceeded"), "too_long"),
}


@pytest.mark.parametrize(("reply", "state"), ERRORS.values(), ids=ERRORS.keys())
def test_an_answer_that_is_no_verdict_is_kept_counted_and_not_asked_again(
    reply: Reply, state: str, server: FakeServer, few: Settings
) -> None:
    server.answer = lambda body: reply
    judged = judge_units(few)
    assert judged.card["states"] == {state: UNITS}
    assert stored(few, "verdict") == {"error": UNITS}
    row = judged.rows["same"]
    assert (row.value, row.text, row.errors, row.drugs) == (None, "nothing judged", UNITS, 0)
    judge_units(few)
    assert set(server.asked.values()) == {1}


def test_an_abstention_is_a_verdict_and_no_approval(server: FakeServer, few: Settings) -> None:
    server.answer = lambda body: opinion(UNSURE if "aspirin" in body["messages"][1]["content"][-10:] else OPINION)
    row = judge_units(few).rows["same"]
    assert (row.raw, row.abstained, row.errors) == (0.5, STAYS, 0)
    assert row.if_abstained == (0.5, 1.0)


def test_stays_with_one_and_the_same_chart_ask_once(server: FakeServer, few: Settings, tmp_path: Path) -> None:
    """Two at a time would else put one question twice."""
    facts = ("age", "sex", "height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg", "diagnoses")
    samples = pl.read_parquet(few.cohort / "samples.parquet")
    alike = samples.with_columns(pl.col(name).first() for name in (*facts, "previous_drugs"))
    cohort = tmp_path / "alike"
    cohort.mkdir()
    alike.write_parquet(cohort / "samples.parquet")
    described = json.loads((few.cohort / "cohort.json").read_text())
    (cohort / "cohort.json").write_text(json.dumps({**described, "outputs": {}}))
    write_drafts(few.evaluation, cohort, "same", lambda sample: ["aspirin"])
    (few.evaluation / "predictions" / "half.parquet").unlink()
    judged = judge_units(replace(few, cohort=cohort))
    assert len(server.questions) == 1
    assert judged.rows["same"].drugs == 75


# --- requests without an answer ---------------------------------------------------------------------------

FAULTS = {
    "busy": (failure(429), "rate_limited", 429),
    "error": (failure(500), "server_error", 500),
    "overloaded": (failure(503), "server_error", 503),
    "conflict": (failure(409), "server_error", 409),
    "another page": ((200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"), "not_a_completion", 200),
    "half a page": ((200, {}, b'{"model": "judge-1-2026", "choices"'), "not_a_completion", 200),
    "other JSON": ((200, {}, b'["ready"]'), "not_a_completion", 200),
    "another API": ((200, {}, b'{"error": null}'), "not_a_completion", 200),
}


@pytest.mark.parametrize(("reply", "state", "status"), FAULTS.values(), ids=FAULTS.keys())
def test_a_question_that_failed_is_put_again_and_both_are_counted(
    reply: Reply, state: str, status: int, server: FakeServer, few: Settings
) -> None:
    server.answer = first_then(reply, opinion())
    judged = judge_units(few)
    assert judged.card["states"] == {"answered": UNITS}
    assert failed(few) == {(state, status): UNITS}
    assert judged.card["failed_requests"] == {"judge-1": {state: UNITS}}


def test_a_question_that_keeps_failing_stays_open_and_the_next_run_asks_it(server: FakeServer, few: Settings) -> None:
    broken = {"on": True}

    def answer(body: dict[str, Any]) -> Reply:
        heparin = body["messages"][1]["content"].endswith("heparin")
        return failure(500) if broken["on"] and heparin else opinion()

    server.answer = answer
    stubborn = replace(few, limits=replace(few.limits, concurrency=1, give_up_after=1000))
    judged = judge_units(stubborn)
    assert judged.tallies[0].open == {"server_error": STAYS}
    row = judged.rows["same"]
    assert (row.open, row.drugs) == (STAYS, STAYS)
    assert "INCOMPLETE: 20 units open" in row.badge
    assert not judged.card["certified"]
    broken["on"] = False
    again = judge_units(stubborn)
    assert (again.tallies[0].stored, again.tallies[0].asked) == (STAYS, STAYS)
    assert again.rows["same"].open == 0
    assert "INCOMPLETE" not in again.rows["same"].badge


def test_a_slow_answer_is_a_timeout(server: FakeServer, few: Settings) -> None:
    slow = {"left": 1}

    def answer(body: dict[str, Any]) -> Reply:
        if slow["left"]:
            slow["left"] -= 1
            time.sleep(2)
        return opinion()

    server.answer = answer
    judged = judge_units(replace(few, timeout_seconds=1, limits=replace(few.limits, concurrency=1, tries=6)))
    assert judged.card["states"] == {"answered": UNITS}
    assert failed(few)[("timeout", None)] >= 1


def test_a_server_that_has_stopped_answering_ends_the_run_and_loses_nothing(server: FakeServer, few: Settings) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return opinion() if len(server.questions) <= 15 else failure(500)

    server.answer = answer
    with pytest.raises(ConfigError, match=r"does not answer \(server_error 500\).*every answer so far is kept"):
        judge_units(few)
    assert stored(few)["answered"] == 15
    assert len(server.questions) < 15 + 3 * (few.limits.give_up_after + few.limits.concurrency)
    server.answer = lambda body: opinion()
    judged = judge_units(few)
    assert (judged.tallies[0].stored, judged.tallies[0].asked) == (15, UNITS - 15)


@pytest.mark.parametrize(
    "reply",
    [failure(401, "invalid_api_key"), failure(403), failure(404, "model_not_found"), failure(400), failure(422)],
)
def test_a_server_that_refuses_is_asked_once_and_not_quoted(reply: Reply, server: FakeServer, few: Settings) -> None:
    server.probe_is_easy = False
    server.answer = lambda body: reply
    with pytest.raises(ConfigError, match=f"rejected.*{reply[0]}") as stopped:
        judge_units(few)
    assert len(server.headers) == 1
    assert "CANARY" not in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 1


def test_an_exhausted_quota_is_not_waited_for(server: FakeServer, few: Settings) -> None:
    server.answer = lambda body: failure(429, "insufficient_quota")
    with pytest.raises(ConfigError, match="insufficient_quota 429"):
        judge_units(replace(few, limits=replace(few.limits, concurrency=1)))
    assert len(server.questions) == 1


def test_nobody_there_is_one_line(server: FakeServer, few: Settings) -> None:
    server.close()
    with pytest.raises(ConfigError, match="unreachable"):
        judge_units(few)


# --- pace -------------------------------------------------------------------------------------------------


def test_retry_after_is_obeyed(server: FakeServer, few: Settings) -> None:
    moments: list[float] = []

    def answer(body: dict[str, Any]) -> Reply:
        moments.append(time.monotonic())
        return failure(429, **{"Retry-After-Ms": "400"}) if len(moments) == 1 else opinion()

    server.answer = answer
    judge_units(replace(few, limits=replace(few.limits, concurrency=1)))
    assert moments[1] - moments[0] >= 0.4


def test_no_more_than_allowed_are_under_way(server: FakeServer, few: Settings) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return opinion()

    server.answer = answer
    judge_units(replace(few, limits=replace(few.limits, concurrency=3)))
    assert 1 < server.most_under_way <= 3


def test_a_minute_holds_no_more_requests_than_allowed(server: FakeServer, few: Settings) -> None:
    moments: list[float] = []

    def answer(body: dict[str, Any]) -> Reply:
        moments.append(time.monotonic())
        return opinion()

    server.answer = answer
    judge_units(replace(few, limits=replace(few.limits, requests_per_minute=60 * 100)))
    assert moments[-1] - moments[0] >= (UNITS - 1) / 100 - 0.05


# --- identity ---------------------------------------------------------------------------------------------


def test_a_model_that_changes_under_its_name_ends_the_run_and_mixes_nothing(server: FakeServer, few: Settings) -> None:
    server.answer = lambda body: opinion(model="judge-1-2026" if len(server.questions) < 20 else "judge-1-2027")
    with pytest.raises(ContractError, match="judge-1-2026 and now answers as judge-1-2027"):
        judge_units(few)
    kept = stored(few, "model_returned")
    assert kept["judge-1-2026"] >= 12
    assert kept["judge-1-2027"] >= 1


def test_another_snapshot_is_asked_everything_anew(server: FakeServer, few: Settings) -> None:
    judge_units(few)
    server.probe_is_easy = False
    server.answer = lambda body: opinion(NO, model="judge-1-2027")
    judged = judge_units(few)
    assert judged.tallies[0].asked == UNITS
    assert judged.rows["same"].raw == 0.0


@pytest.mark.parametrize("other", [Decoding(0.7), Decoding(None), Decoding(max_tokens=90)])
def test_other_decoding_is_another_question(other: Decoding, server: FakeServer, few: Settings) -> None:
    judge_units(few)
    assert judge_units(replace(few, decoding=other)).tallies[0].asked == UNITS


# --- the wire ---------------------------------------------------------------------------------------------


def test_a_request_asks_for_the_schema_stores_nothing_and_draws_nothing(server: FakeServer, few: Settings) -> None:
    judge_units(few)
    for body in server.questions:
        assert (body["model"], body["store"], body["temperature"]) == ("judge-1", False, 0)
        shape = body["response_format"]["json_schema"]
        assert shape["strict"] is True
        assert shape["schema"]["additionalProperties"] is False
        assert shape["schema"]["required"] == list(shape["schema"]["properties"])


def test_no_request_holds_an_identifier_an_answer_or_a_kind(server: FakeServer, settings: Settings) -> None:
    """The judge is blind: it sees a chart and a drug, and nothing of why it is asked."""
    judge_units(replace(settings, rows=("same",)))
    sent = json.dumps(server.questions) + json.dumps(server.headers)
    samples = read_samples(settings.cohort, "train")
    identifiers = {str(value) for name in ("subject_id", "hadm_id") for value in samples[name]}
    assert not [word for word in identifiers if word in sent]
    for word in ("positive", "chart_swap", "fictitious", "decoy", "retest", "draft_", "zidovudine; "):
        assert word not in sent


def test_a_key_for_others_is_not_sent_to_this_machine(
    server: FakeServer, few: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    judge_units(few)
    assert "CANARY" not in json.dumps(server.headers)


def test_a_proxy_never_sees_what_goes_to_this_machine(
    server: FakeServer, few: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FakeServer()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    try:
        judge_units(few)
    finally:
        proxy.close()
    assert proxy.headers == []
    assert len(server.questions) == UNITS


def test_a_redirect_is_not_followed(server: FakeServer, few: Settings) -> None:
    """A server on this machine must not be able to send a chart to another."""
    other = FakeServer()
    server.answer = lambda body: (307, {"Location": f"{other.url}/chat/completions"}, b"")
    try:
        with pytest.raises(ConfigError):
            judge_units(few)
    finally:
        other.close()
    assert other.headers == []


def test_logs_hold_no_chart_even_when_the_client_is_told_to_log_all(
    server: FakeServer, few: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    monkeypatch.setenv("OPENAI_LOG", "debug")
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai").setLevel(logging.DEBUG)
    judge_units(few)
    assert "Diagnoses:" not in caplog.text


# --- money ------------------------------------------------------------------------------------------------


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text('["judge-1"]\ninput_usd_per_million = 10\noutput_usd_per_million = 100\n')
    return path


def test_a_run_that_may_cost_too_much_sends_nothing(server: FakeServer, few: Settings, prices: Path) -> None:
    with pytest.raises(ConfigError, match=r"may cost \$.*nothing was sent"):
        judge_units(replace(few, prices=prices, max_usd=1.0))
    assert server.headers == []


def test_a_budget_without_a_price_sends_nothing(server: FakeServer, few: Settings) -> None:
    with pytest.raises(ConfigError, match="needs the price of judge-1"):
        judge_units(replace(few, max_usd=1.0))
    assert server.headers == []


def test_what_was_spent_is_what_the_server_counted(server: FakeServer, few: Settings, prices: Path) -> None:
    judged = judge_units(replace(few, prices=prices, max_usd=1000.0))
    usage = judged.card["usage"]
    assert (usage["tokens_in"], usage["tokens_out"]) == (100 * UNITS, 50 * UNITS)
    assert usage["cost_usd"] == pytest.approx(UNITS * (100 * 10 + 50 * 100) / 1e6)
    assert judged.tallies[0].usd == pytest.approx(usage["cost_usd"])


def test_a_budget_that_runs_out_on_the_way_leaves_the_rest_open(
    server: FakeServer, few: Settings, prices: Path
) -> None:
    """A server may bill more than was estimated: the run stops at the limit, not behind it."""
    from etl.outside.budget import read_prices

    def answer(body: dict[str, Any]) -> Reply:
        status, headers, content = opinion()
        dear = {**json.loads(content), "usage": {"prompt_tokens": 100_000, "completion_tokens": 50}}
        return status, headers, json.dumps(dear).encode()

    server.answer = answer
    most = 12.0
    assert read_prices(prices)["judge-1"].of(100_000, 50) > 1
    judged = judge_units(replace(few, prices=prices, max_usd=most, limits=replace(few.limits, concurrency=1)))
    assert judged.tallies[0].open["max_cost"] > 20
    assert judged.tallies[0].usd <= most + 1.1


@pytest.mark.parametrize("content", ["gpt-4.1 = 3", '["x"]\ninput_usd_per_million = "a"', "[x", "x = 1"])
def test_what_is_no_price_list_is_one_line(content: str, few: Settings, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="quote"):
        judge_units(replace(few, prices=path))


def test_a_probe_holds_no_word_of_a_patient(server: FakeServer, few: Settings) -> None:
    probes: list[dict[str, Any]] = []
    server.probe_is_easy = False

    def answer(body: dict[str, Any]) -> Reply:
        if is_probe(body):
            probes.append(body)
        return opinion()

    server.answer = answer
    judge_units(few)
    assert [body["messages"] for body in probes] == [[{"role": "user", "content": "Answer with the word ready."}]]
