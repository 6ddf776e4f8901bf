"""The service in process: the documented draft, and errors that repeat nothing of what was sent."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.drafting import reviewing
from serving.operation.body_limit import MAX_BODY_BYTES
from serving.recommendation import BusyError, LateError
from serving.recommenders.lists import Recommender
from serving.schemas import DraftRequest
from tests.serving.served import drafted as as_drafted
from tests.serving.served import served, wait_ready

CANARY = "CANARY-MRN-81723"
CANARY_KEY = "canary_key_4711"
DIAGNOSIS = {"icd_code": "I50.9", "icd_version": 10}


@pytest.fixture(scope="module")
def client(recommender: Recommender) -> Iterator[TestClient]:
    with served(lambda: recommender) as client:
        yield client


def drafted(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/drafts", json=body)
    assert answer.status_code == 200, answer.text
    return as_drafted(answer.json())


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["type"] == "about:blank"
    assert content["status"] == status
    assert content["title"]
    return content


def assert_no_canary(answer: Any) -> None:
    said = answer.text + str(dict(answer.headers))
    assert "canary" not in said.lower()


# --- drafts ---------------------------------------------------------------------------------------------


def test_a_draft_has_the_documented_shape(client, body, recommender):
    draft = client.post("/v1/drafts", json=body).json()
    assert draft.keys() == {
        *("draft_id", "status", "state", "version", "created_at", "disclaimer_id", "facts"),
        *("drugs", "answer", "model", "warnings", "versions", "inputs", "screening"),
    }
    assert (draft["status"], draft["state"], draft["version"]) == ("draft", "ready", 1)
    assert [item["rank"] for item in draft["drugs"]] == list(range(1, len(draft["drugs"]) + 1))
    assert draft["drugs"]
    assert all(
        item.keys() - {"evidence"} == {"item_id", "rank", "drug", "ingredients", "atc"} for item in draft["drugs"]
    )
    assert [item["item_id"] for item in draft["drugs"]] == [f"i{item['rank']}" for item in draft["drugs"]]
    assert draft["answer"].keys() == {"well_formed", "outcome"}
    manifest = recommender.manifest
    assert draft["model"] == {
        "base": manifest.base,
        "adapter_sha256": manifest.weights_sha256,
        "rank": 4,
        "step": 4,
        "prompt_version": manifest.prompt_version,
        "formulary_sha256": manifest.formulary_sha256,
        "objective": "list",
        "calibration_sha256": None,
        "calibrated_on": None,
        "model_weight": None,
    }
    assert all(warning.keys() == {"code", "position", "detail"} for warning in draft["warnings"])


def test_the_service_answers_as_the_recommender_does(client, body, recommender):
    admission = DraftRequest.model_validate(body).to_admission(recommender.vocabulary)
    [direct] = recommender.recommend([admission])
    assert [item["drug"] for item in drafted(client, body)["drugs"]] == list(direct.answer.drugs)


def test_two_drafts_of_one_admission_differ_in_their_id_only(client, body):
    first, second = (client.post("/v1/drafts", json=body).json() for _ in range(2))
    assert first["draft_id"] != second["draft_id"]
    assert as_drafted(first) == as_drafted(second)


def test_a_codes_spelling_does_not_change_the_draft(client, body):
    def respelt(spell):
        codes = [{**d, "icd_code": spell(d["icd_code"])} for d in body["diagnoses"]]
        return drafted(client, {**body, "diagnoses": codes})

    plain = drafted(client, body)
    assert respelt(str.lower) == plain
    assert respelt(lambda code: f"{code[:3]}.{code[3:]}") == plain
    assert respelt(lambda code: f" {code[:3].lower()}.{code[3:].lower()} ") == plain


def test_a_known_code_and_its_title_in_words_are_the_same_question(client, body, recommender):
    titles = recommender.vocabulary.titles
    words = [{"text": titles[d["icd_code"], d["icd_version"]]} for d in body["diagnoses"]]
    assert drafted(client, {**body, "diagnoses": words})["drugs"] == drafted(client, body)["drugs"]


def test_a_code_of_the_other_icd_version_is_another_diagnosis(client, body):
    first = {**body["diagnoses"][0]}
    first["icd_version"] = 19 - first["icd_version"]
    warnings = drafted(client, {**body, "diagnoses": [first]})["warnings"]
    assert {"unknown_icd_code"} <= {warning["code"] for warning in warnings}


def test_an_unknown_code_is_warned_of_at_its_place(client, body):
    unknown = {"icd_code": "Q99.123", "icd_version": 10}
    warnings = drafted(client, {**body, "diagnoses": [*body["diagnoses"], unknown]})["warnings"]
    places = [w["position"] for w in warnings if w["code"] == "unknown_icd_code"]
    assert places == [len(body["diagnoses"]) + 1]


def test_known_codes_are_not_warned_of(client, body):
    assert "unknown_icd_code" not in {w["code"] for w in drafted(client, body)["warnings"]}


def test_previous_drugs_may_be_spelt_in_any_way(client, body):
    one = drafted(client, {**body, "previous_drugs": ["heparin", "sodium chloride 0.9% flush"]})
    other = drafted(
        client, {**body, "previous_drugs": ["*NF* HEPARIN ", "Sodium  Chloride 0.9% \nFlush", "heparin", "  "]}
    )
    assert one == other


def test_what_training_did_not_call_a_drug_is_none_here(client, body, recommender):
    assert "devices" in recommender.vocabulary.dropped
    one = drafted(client, {**body, "previous_drugs": ["heparin"]})
    assert drafted(client, {**body, "previous_drugs": ["Alcohol Swabs", "heparin"]}) == one


def test_earlier_diagnoses_and_drugs_so_far_reach_the_model_in_trainings_words(body, recommender):
    code = body["diagnoses"][0]
    title = recommender.vocabulary.titles[code["icd_code"], code["icd_version"]]
    within = {"earlier_diagnoses": [{**code, "icd_code": code["icd_code"].lower()}], "current_drugs": ["*NF* HEPARIN "]}
    admission = DraftRequest.model_validate({**body, **within}).to_admission(recommender.vocabulary)
    assert admission.current_drugs == ("heparin",)
    assert [diagnosis.title for diagnosis in admission.earlier_diagnoses] == [title]
    plain = DraftRequest.model_validate(body).to_admission(recommender.vocabulary)
    assert (plain.earlier_diagnoses, plain.current_drugs) == (None, None)


def test_earlier_diagnoses_are_enough_to_go_by(client):
    assert drafted(client, {"diagnoses": [], "earlier_diagnoses": [DIAGNOSIS]})["status"] == "draft"


def test_an_admission_needs_a_diagnosis_and_nothing_else(client, body):
    alone = drafted(client, {"diagnoses": body["diagnoses"]})
    assert alone["status"] == "draft"
    nulls = dict.fromkeys(set(body) - {"diagnoses"})
    assert drafted(client, {"diagnoses": body["diagnoses"], **nulls}) == alone
    assert alone["inputs"]["used"] == ["diagnoses"]


def test_a_bmi_that_follows_from_height_and_weight_may_be_left_out(client, body):
    size = {"height_cm": 200.0, "weight_kg": 100.0}
    first, second = (drafted(client, {**body, **size, "bmi": bmi})["drugs"] for bmi in (None, 25.0))
    assert first == second


def writes(recommender: Recommender, monkeypatch: pytest.MonkeyPatch, text: str, truncated: bool = False) -> None:
    """Have a model write a text, not held to the formulary."""
    from serving.recommenders.engine import Generated

    async def draft(admission: Any, seconds: float) -> Any:
        [drafted] = recommender.recommend([admission], raw=True)
        return drafted

    monkeypatch.setattr(recommender.engine, "generate", lambda *_: [Generated(text, truncated)])
    monkeypatch.setattr(recommender, "draft", draft)


def test_an_answer_that_is_no_list_shows_no_drug_and_says_so(client, body, recommender, monkeypatch):
    writes(recommender, monkeypatch, "heparin\naspi", truncated=True)
    draft = drafted(client, body)
    assert draft["drugs"] == []
    assert draft["answer"] == {"well_formed": False, "outcome": "truncated"}
    assert "not_well_formed" in {warning["code"] for warning in draft["warnings"]}
    assert draft["status"] == "draft"


def test_a_drug_outside_the_formulary_is_shown_and_warned_of(client, body, recommender, monkeypatch):
    known = recommender.vocabulary.formulary[0]
    writes(recommender, monkeypatch, f"{known}\nunobtainium")
    draft = drafted(client, body)
    assert [item["drug"] for item in draft["drugs"]] == [known, "unobtainium"]
    assert "unobtainium" in draft["screening"]["unscreened"]
    assert [w["position"] for w in draft["warnings"] if w["code"] == "not_in_formulary"] == [2]


def test_an_empty_list_is_a_draft_and_no_failure(client, body, recommender, monkeypatch):
    writes(recommender, monkeypatch, "none")
    draft = drafted(client, body)
    assert (draft["drugs"], draft["answer"]["well_formed"], draft["status"]) == ([], True, "draft")


def test_requests_that_meet_get_what_each_gets_alone(client, body):
    bodies = [{**body, "age": age} for age in range(30, 90, 5)]
    alone = [drafted(client, one) for one in bodies]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda one: drafted(client, one), bodies)) == alone


@pytest.mark.parametrize(("error", "status"), [(BusyError("full"), 503), (LateError("late"), 504)])
def test_too_many_requests_and_a_passed_deadline_are_told(client, body, recommender, monkeypatch, error, status):
    async def refuse(admission: Any, seconds: float) -> None:
        raise error

    monkeypatch.setattr(recommender, "draft", refuse)
    answer = client.post("/v1/drafts", json=body)
    assert_problem(answer, status)
    assert ("Retry-After" in answer.headers) is (status == 503)


def test_a_list_whose_probabilities_nobody_knows_is_not_explained_and_that_is_said(client, body):
    plain, told = drafted(client, body), drafted(client, {**body, "explain": True})
    assert [item["drug"] for item in told["drugs"]] == [item["drug"] for item in plain["drugs"]]
    assert not any("because" in item or "probability" in item for item in told["drugs"])
    assert [w["code"] for w in told["warnings"] if w not in plain["warnings"]] == ["not_explained"]
    assert "probabilities" not in told


# --- errors ---------------------------------------------------------------------------------------------

REFUSED: dict[str, Any] = {
    "no diagnoses": {"diagnoses": [], "sex": CANARY},
    "no diagnoses and earlier ones unknown": {"diagnoses": [], "earlier_diagnoses": None, "sex": "F"},
    "earlier diagnoses a word": {"diagnoses": [DIAGNOSIS], "earlier_diagnoses": CANARY},
    "drugs so far a word": {"diagnoses": [DIAGNOSIS], "current_drugs": CANARY},
    "diagnoses missing": {"age": CANARY, "sex": "F"},
    "diagnoses null": {"diagnoses": None, CANARY_KEY: 1},
    "extra key": {"diagnoses": [DIAGNOSIS], CANARY_KEY: CANARY},
    "extra key in a diagnosis": {"diagnoses": [{**DIAGNOSIS, CANARY_KEY: CANARY}]},
    "diagnoses a word": {"diagnoses": CANARY},
    "a diagnosis a word": {"diagnoses": [CANARY]},
    "age a word": {"diagnoses": [DIAGNOSIS], "age": CANARY},
    "age out of range": {"diagnoses": [DIAGNOSIS], "age": 8_172_300, CANARY_KEY: CANARY},
    "sex a word": {"diagnoses": [DIAGNOSIS], "sex": CANARY},
    "drugs a word": {"diagnoses": [DIAGNOSIS], "previous_drugs": CANARY},
    "drugs of objects": {"diagnoses": [DIAGNOSIS], "previous_drugs": [{CANARY_KEY: CANARY}]},
    "drug too long": {"diagnoses": [DIAGNOSIS], "previous_drugs": [CANARY * 20]},
    "too many drugs": {"diagnoses": [DIAGNOSIS], "previous_drugs": [CANARY] * 301},
    "version 11": {"diagnoses": [{"icd_code": CANARY, "icd_version": 11}]},
    "version a word": {"diagnoses": [{"icd_code": "I509", "icd_version": CANARY}]},
    "version missing": {"diagnoses": [{"icd_code": CANARY}]},
    "code no code": {"diagnoses": [{"icd_code": "I50-9", "icd_version": 10, CANARY_KEY: 1}]},
    "code and text": {"diagnoses": [{**DIAGNOSIS, "text": CANARY}]},
    "neither code nor text": {"diagnoses": [{CANARY_KEY: CANARY}]},
    "empty diagnosis": {"diagnoses": [{}], "sex": CANARY},
    "text empty": {"diagnoses": [{"text": "   "}], "sex": CANARY},
    "text too long": {"diagnoses": [{"text": CANARY * 100}]},
    "too many diagnoses": {"diagnoses": [{"text": CANARY}] * 301},
    "body a list": [CANARY, {CANARY_KEY: CANARY}],
    "body a word": CANARY,
    "body null": None,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_a_body_outside_the_schema_is_a_problem_that_echoes_nothing(client, body):
    answer = client.post(f"/v1/drafts?name={CANARY}", json=body, headers={"X-Request-ID": CANARY})
    content = assert_problem(answer, 422)
    assert content.keys() == {"type", "status", "title", "code", "request_id", "errors"}
    assert content["errors"]
    assert all(error.keys() == {"at", "kind"} for error in content["errors"])
    assert_no_canary(answer)


RAW: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (f'{{"diagnoses": [{{"text": "{CANARY}"'.encode(), "application/json", 400),
    "prose": (CANARY.encode(), "application/json", 400),
    "nothing": (b"", "application/json", 422),
    "plain text": (json.dumps({"diagnoses": [{"text": CANARY}]}).encode(), "text/plain", 415),
    "a form": (f"diagnoses={CANARY}".encode(), "application/x-www-form-urlencoded", 415),
    "half a surrogate": (b'{"diagnoses": [{"text": "\\ud800 ' + CANARY.encode() + b'"}]}', "application/json", 422),
    "NaN": (b'{"diagnoses": [{"text": "x"}], "height_cm": NaN, "canary_key": 1}', "application/json", 422),
}


@pytest.mark.parametrize(("content", "content_type", "status"), RAW.values(), ids=RAW.keys())
def test_a_body_that_cannot_be_read_is_a_problem_that_echoes_nothing(client, content, content_type, status):
    answer = client.post("/v1/drafts", content=content, headers={"Content-Type": content_type})
    assert_problem(answer, status)
    assert_no_canary(answer)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe" + CANARY.encode(), b"[" * 50_000 + CANARY.encode(), b'{"age": ' + b"9" * 5000 + b"}"],
    ids=["no UTF-8", "too deep", "too many digits"],
)
def test_hostile_json_is_the_clients_error_and_echoes_nothing(client, content):
    answer = client.post("/v1/drafts", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert_problem(answer, answer.status_code)
    assert_no_canary(answer)


marked = st.text(max_size=8).map(lambda text: f"{CANARY}{text}")
odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | marked,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(marked | st.sampled_from(["diagnoses", "icd_code", "text", "age", "sex"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(content=st.dictionaries(st.sampled_from(["diagnoses", "age", "previous_drugs", CANARY]), odd_json))
def test_no_odd_json_is_echoed_or_breaks_the_service(client, content):
    answer = client.post("/v1/drafts", json={**content, CANARY_KEY: CANARY})
    assert_problem(answer, 422)
    assert_no_canary(answer)


def test_errors_name_the_place_by_our_own_words(client):
    body = {"diagnoses": [DIAGNOSIS, {"text": ""}], "age": -1, CANARY_KEY: 1}
    errors = client.post("/v1/drafts", json=body).json()["errors"]
    assert {"at": "body/age", "kind": "greater_than_equal"} in errors
    assert {"at": "body/<key>", "kind": "extra_forbidden"} in errors
    assert {"at": "body/diagnoses/1/TextDiagnosis/text", "kind": "string_too_short"} in errors


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_is_refused(client, chunked):
    whole = json.dumps({"diagnoses": [{"text": CANARY}], "filler": "x" * MAX_BODY_BYTES}).encode()
    content = iter([whole[:1000], whole[1000:]]) if chunked else whole
    answer = client.post("/v1/drafts", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert_no_canary(answer)


def test_a_large_body_under_the_limit_is_read(client):
    text = {"text": "x" * 500}
    body = {"diagnoses": [text] * 300, "previous_drugs": ["y" * 200] * 300}
    assert MAX_BODY_BYTES > len(json.dumps(body)) > 200_000
    assert client.post("/v1/drafts", json={**body, "age": "no"}).json()["errors"] == [
        {"at": "body/age", "kind": "number_type"}
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/{CANARY}", 404),
        ("GET", f"/v1/drafts/{CANARY}", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("PUT", f"/v1/drafts?{CANARY}", 405),
        ("DELETE", "/v1/drafts", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_unknown_places_and_methods_are_problems_that_echo_nothing(client, method, path, status):
    answer = client.request(method, path)
    assert_problem(answer, status)
    assert_no_canary(answer)


def test_a_stray_slash_does_not_echo_the_query(client, body):
    """A redirect repeats the URL in its Location header, query and all."""
    answer = client.post(f"/v1/drafts/?name={CANARY}", json=body, follow_redirects=False)
    assert_no_canary(answer)


def test_an_exception_in_the_recommender_is_a_bare_500_and_its_message_is_logged_nowhere(
    client, body, recommender, monkeypatch, caplog
):
    async def fail(admission: Any, seconds: float) -> None:
        raise RuntimeError(f"no drug for {CANARY}") from ValueError(CANARY)

    monkeypatch.setattr(recommender, "draft", fail)
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/v1/drafts", json=body)
    content = assert_problem(answer, 500)
    assert content.keys() == {"type", "status", "title", "code", "request_id"}
    assert_no_canary(answer)
    assert "RuntimeError" in caplog.text  # it is logged, by its name and place
    logged = caplog.text + "".join(f"{r.getMessage()} {r.args} {r.exc_info} {r.exc_text}" for r in caplog.records)
    assert "canary" not in logged.lower()


def test_an_answer_that_breaks_the_schema_is_a_bare_500_too(client, body, monkeypatch, caplog):
    """FastAPI quotes the whole value where a response does not fit its model."""
    real = reviewing.shown

    def broken(*args: Any) -> Any:
        draft = real(*args)
        return SimpleNamespace(**{name: getattr(draft, name) for name in type(draft).model_fields} | {"drugs": CANARY})

    monkeypatch.setattr(reviewing, "shown", broken)
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/v1/drafts", json=body)
    assert_problem(answer, 500)
    assert_no_canary(answer)
    assert "canary" not in caplog.text.lower()


def test_nothing_of_an_admission_is_logged_at_info(client, body, caplog):
    with caplog.at_level(logging.INFO):
        draft = drafted(client, {**body, "diagnoses": [{"text": CANARY}, *body["diagnoses"]]})
    assert "canary" not in caplog.text.lower()
    assert all(item["drug"] not in caplog.text for item in draft["drugs"])


# --- probes ---------------------------------------------------------------------------------------------


def test_until_the_model_is_loaded_drafts_are_refused_and_afterwards_made(recommender, body):
    may_go_on = threading.Event()

    def load() -> Recommender:
        may_go_on.wait(20)
        return recommender

    with served(load, wait=False) as client:
        try:
            for answer in (client.get("/readyz"), client.post("/v1/drafts", json=body)):
                assert_problem(answer, 503)
                assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/healthz").status_code == 200
        finally:
            may_go_on.set()
        wait_ready(client)
        assert client.post("/v1/drafts", json=body).status_code == 200
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_wrong_body_is_told_even_while_the_model_loads(recommender):
    may_go_on = threading.Event()
    with served(lambda: may_go_on.wait(20) and recommender, wait=False) as client:
        try:
            answer = client.post("/v1/drafts", json={CANARY_KEY: CANARY})
        finally:
            may_go_on.set()
    assert answer.status_code in {422, 503}
    assert_no_canary(answer)


def test_a_model_that_cannot_be_loaded_is_never_ready(caplog):
    def fail() -> Recommender:
        raise OSError("disk gone")

    with served(fail, wait=False) as client:
        time.sleep(0.05)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_the_schema_is_published_and_lists_every_field(client, body):
    request = client.get("/openapi.json").json()["components"]["schemas"]["DraftRequest"]
    safety = {"allergies", "pregnant", "lactating", "creatinine_mg_dl", "egfr", "potassium_mmol_l"}
    assert request["properties"].keys() == {*body, "earlier_diagnoses", "current_drugs", "explain", "model", *safety}
    assert request["required"] == ["diagnoses"]
