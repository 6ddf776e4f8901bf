"""The judge: exact or unscored, over real HTTP to an endpoint that speaks chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl
import pytest

from etl.errors import ConfigError
from etl.prompts import render_prompt
from evaluation.judge import Judge, Judgement

Reply = tuple[int, dict[str, str], bytes]


class Endpoint:
    """An OpenAI-compatible server on this machine: answers from a queue, the last reply for ever."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append((self.path, dict(self.headers), content))
                status, headers, answer = endpoint.next_reply()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_CONNECT = do_POST  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(content) for _, _, content in self.requests]


def completion(content: str | None, finish_reason: str = "stop", refusal: str | None = None) -> Reply:
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "judge-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return 200, {}, json.dumps(answer).encode()


def verdict(appropriate: Any, inappropriate: Any, **more: Any) -> Reply:
    return completion(json.dumps({"appropriate": appropriate, "inappropriate": inappropriate, **more}))


def failure(status: int) -> Reply:
    content = {"error": {"message": "no CANARY today", "type": "server_error", "param": None, "code": None}}
    return status, {"Retry-After-Ms": "1"}, json.dumps(content).encode()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = Endpoint()
    yield started
    started.close()


FACTS: dict[str, Any] = {
    "subject_id": 10_000_370,
    "hadm_id": 20_000_740,
    "age": 54,
    "sex": "F",
    "height_cm": 165.1,
    "weight_kg": None,
    "bmi": None,
    "systolic_mmhg": 133.0,
    "diastolic_mmhg": 69.0,
    "diagnoses": [{"icd_code": "41401", "icd_version": 9, "title": "Coronary atherosclerosis"}],
    "previous_drugs": ["aspirin"],
    "current_drugs": None,
    "earlier_diagnoses": None,
    "drugs": ["clopidogrel", "nitroglycerin sl"],
}
DRUGS = ["aspirin", "heparin", "senna", "insulin"]


def judge(endpoint: Endpoint, lists: list[list[str]]) -> Judgement:
    samples = pl.DataFrame([FACTS] * len(lists), infer_schema_length=None)
    predictions = pl.DataFrame({"drugs": lists}, schema={"drugs": pl.List(pl.String)})
    return Judge(endpoint.url, "judge-1").judge(predictions, samples, lambda done, total, loss: None)


# --- verdicts -------------------------------------------------------------------------------------------


def test_a_verdict_that_counts_every_drug_is_a_share(endpoint):
    endpoint.replies = [verdict(3, 1)]
    assert judge(endpoint, [DRUGS]) == Judgement(0.75, judged=1, unscored=0, no_list=0)


def test_the_share_is_averaged_over_admissions_and_not_over_drugs(endpoint):
    endpoint.replies = [verdict(4, 0), verdict(0, 1)]
    assert judge(endpoint, [DRUGS, ["aspirin"]]).appropriateness == 0.5


def test_an_admission_without_drugs_is_not_asked_about(endpoint):
    endpoint.replies = [verdict(4, 0)]
    assert judge(endpoint, [[], DRUGS, []]) == Judgement(1.0, judged=1, unscored=0, no_list=2)
    assert len(endpoint.requests) == 1


UNSCORED = {
    "too few": verdict(3, 0),
    "too many": verdict(4, 1),
    "none": verdict(0, 0),
    "negative": verdict(5, -1),
    "half a drug": verdict(3.5, 0.5),
    "words": verdict("all", "none"),
    "an extra key": verdict(4, 0, comment="fine"),
    "a missing key": completion('{"appropriate": 4}'),
    "no JSON": completion("All four are APPROPRIATE."),
    "half a JSON": completion('{"appropriate": 4, "inapp'),
    "a list": completion("[4, 0]"),
    "empty": completion(""),
    "no content": completion(None),
    "a refusal": completion(None, refusal="I cannot judge prescriptions."),
    "truncated": completion('{"appropriate": 4, "inappropriate": 0}', finish_reason="length"),
    "filtered": completion('{"appropriate": 4, "inappropriate": 0}', finish_reason="content_filter"),
    "no choice": (200, {}, b'{"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
}


@pytest.mark.parametrize("reply", UNSCORED.values(), ids=UNSCORED.keys())
def test_anything_but_an_exact_count_is_unscored_and_never_appropriate(endpoint, reply):
    endpoint.replies = [reply]
    assert judge(endpoint, [DRUGS]) == Judgement(None, judged=0, unscored=1, no_list=0)


def test_an_unscored_admission_leaves_the_mean_of_the_others(endpoint):
    endpoint.replies = [verdict(1, 3), completion("no idea"), verdict(3, 1)]
    assert judge(endpoint, [DRUGS] * 3) == Judgement(0.5, judged=2, unscored=1, no_list=0)


# --- the wire -------------------------------------------------------------------------------------------


def test_the_request_asks_for_the_schema_stores_nothing_and_draws_nothing(endpoint):
    endpoint.replies = [verdict(4, 0)]
    judge(endpoint, [DRUGS])
    [(path, _, _)] = endpoint.requests
    [body] = endpoint.bodies
    assert path == "/v1/chat/completions"
    assert (body["model"], body["store"], body["temperature"]) == ("judge-1", False, 0)
    assert body.get("stream") in (None, False)
    assert body["response_format"]["type"] == "json_schema"
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["required"] == ["appropriate", "inappropriate"]


def test_the_request_holds_the_facts_and_the_draft_and_no_identifier(endpoint):
    endpoint.replies = [verdict(4, 0)]
    judge(endpoint, [DRUGS])
    [body] = endpoint.bodies
    system, user = body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"].endswith("Draft:\naspirin\nheparin\nsenna\ninsulin")
    assert "Coronary atherosclerosis" in user["content"]
    [(_, headers, content)] = endpoint.requests
    sent = content.decode() + str(headers)
    assert not [word for word in ("subject_id", "hadm_id", "10000370", "20000740") if word in sent]


def test_the_judge_does_not_see_what_was_ordered(endpoint):
    endpoint.replies = [verdict(4, 0)]
    judge(endpoint, [DRUGS])
    assert not [drug for drug in FACTS["drugs"] if drug in json.dumps(endpoint.bodies)]


def test_the_judge_reads_the_facts_as_the_model_did(endpoint):
    from etl.cohort import to_admission

    endpoint.replies = [verdict(4, 0)]
    judge(endpoint, [DRUGS])
    question = render_prompt(to_admission(FACTS))[1]["content"]
    assert endpoint.bodies[0]["messages"][1]["content"].startswith(question)


def test_a_key_for_others_is_not_sent_to_a_local_endpoint(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    endpoint.replies = [verdict(4, 0)]
    judge(endpoint, [DRUGS])
    assert "CANARY" not in str(endpoint.requests)


def test_a_proxy_of_the_environment_never_sees_what_goes_to_a_local_endpoint(endpoint, monkeypatch):
    """A proxy is another machine; HTTP_PROXY without NO_PROXY is common behind a hospital's firewall."""
    proxy = Endpoint()
    proxy.replies = [verdict(4, 0)]
    endpoint.replies = [verdict(4, 0)]
    monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
    try:
        judge(endpoint, [DRUGS])
    finally:
        proxy.close()
    assert proxy.requests == []
    assert len(endpoint.requests) == 1


def test_a_busy_endpoint_is_asked_again(endpoint):
    endpoint.replies = [failure(429), failure(429), verdict(2, 2)]
    assert judge(endpoint, [DRUGS]).appropriateness == 0.5
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("status", [500, 503, 429, 401, 400, 404])
def test_an_endpoint_that_keeps_failing_is_one_line_without_its_words(endpoint, status):
    endpoint.replies = [failure(status)]
    with pytest.raises(ConfigError) as stopped:
        judge(endpoint, [DRUGS])
    message = str(stopped.value)
    assert str(status) in message
    assert "--judge" in message
    assert "CANARY" not in message
    assert len(message.splitlines()) == 1


def test_an_endpoint_that_is_not_there_is_one_line(endpoint, monkeypatch):
    import openai

    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    endpoint.close()
    with pytest.raises(ConfigError, match="did not answer"):
        judge(endpoint, [DRUGS])


@pytest.mark.parametrize("reply", [(200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"), (200, {}, b"{nonsense")])
def test_an_endpoint_of_another_kind_is_no_verdict_and_no_crash(endpoint, reply):
    endpoint.replies = [reply]
    try:
        assert judge(endpoint, [DRUGS]).judged == 0
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# --- the fence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://192.168.1.7:8001/v1",
        "http://0.0.0.0:8001/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1@example.org/v1",
        "http://127.0.0.1:80@example.org/v1",
        "http://127.0.0.1\\@example.org/v1",
        "http://example.org\\@127.0.0.1/v1",
        "http://example.org#@127.0.0.1/v1",
        "//api.openai.com/v1",
        "api.openai.com/v1",
        "",
    ],
)
def test_an_endpoint_elsewhere_is_refused_before_any_connection(url, monkeypatch):
    import socket

    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    try:
        made = Judge(url, "judge-1")
    except ConfigError as refusal:
        assert len(str(refusal).splitlines()) == 1  # noqa: PT017
    else:
        assert made._client.base_url.host in {"127.0.0.1", "localhost", "::1"}


def test_the_refusal_names_the_host_and_the_option():
    with pytest.raises(ConfigError, match=r"api\.openai\.com .*--judge-may-leave-machine"):
        Judge("https://api.openai.com/v1", "gpt-4o")


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"])
def test_this_machine_needs_no_permission(url):
    assert Judge(url, "judge-1").model == "judge-1"


def test_with_permission_another_machine_may_be_asked(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    allowed = Judge("https://judge.example.org/v1", "judge-1", allow_remote=True)
    assert allowed._client.base_url.host == "judge.example.org"


def test_another_machine_without_a_key_is_one_line(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Judge("https://judge.example.org/v1", "judge-1", allow_remote=True)


def test_without_openai_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"rxdraft\[judge\]"):
        Judge("http://127.0.0.1:1/v1", "judge-1")


# --- in the command -------------------------------------------------------------------------------------


def test_judged_shares_stand_in_the_printed_table(endpoint, taught_runs, tmp_path, monkeypatch, capsys):
    import sys

    import rxdraft

    class Approving(list[Reply]):
        """Approves of every drug it finds in the question, whatever their number."""

        def __len__(self) -> int:
            return 1

        def __getitem__(self, place: Any) -> Reply:
            question = endpoint.bodies[-1]["messages"][1]["content"]
            return verdict(len(question.partition("\nDraft:\n")[2].splitlines()), 0)

    endpoint.replies = Approving()
    options = ["--runs", str(taught_runs), "--split", "validation", "--out", str(tmp_path), "--judge", endpoint.url]
    monkeypatch.setattr(sys, "argv", ["rxdraft", "evaluate", *options, "--judge-model", "judge-1"])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "not judged" not in printed
    cells = json.loads((tmp_path / "table.json").read_text())["cells"]
    for cell in cells:
        found = cell["appropriateness"]
        lists = sum(n for name, n in cell["outcomes"].items() if name in ("ok", "ok_with_duplicates"))
        assert (found["judged"], found["unscored"]) == (lists, 0)
        assert found["appropriateness"] == (1.0 if lists else None)
    assert ("100.0 %" in printed) == any(cell["appropriateness"]["judged"] for cell in cells)
