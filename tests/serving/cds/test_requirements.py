"""Every row of the table of CDS Hooks requirements: a test named after it, or the reason why it has none."""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.access.exposure import check_exposure
from serving.cds.discovery import QUERIES
from serving.cds.models import Card
from serving.recommendation import Drafter
from serving.settings import CdsClient, Settings
from tests.serving.cds.ehr import ISSUER, KID, Ehr, make_key, order, orders
from tests.serving.cds.fhir_server import patient_record
from tests.serving.cds.hospital import URL, drafted

ROWS = {int(row["id"]): row for row in csv.DictReader((Path(__file__).parent / "requirements.csv").open())}

NOT_TESTED = {
    60: "prefetch only: the service opens no connection to a FHIR server",
    61: "prefetch only: an access token is dropped unread",
    75: "systemActions has no field in our models",
    78: "for clients",
    89: "for clients",
    111: "no icon is sent",
    112: "no icon is sent",
    113: "no icon is sent",
    120: "isRecommended has no field in our models: clients may preselect on it",
    121: "isRecommended is not sent",
    122: "isRecommended is not sent",
    132: "update is no action of ours",
    133: "delete is no action of ours",
    134: "delete is no action of ours",
    135: "resourceId belongs to update and delete",
    144: "smart links are not used",
    145: "smart links are not used",
    168: "of a deployment: see test_row_002",
    175: "of a deployment: a proxy's business",
    179: "of a deployment: a proxy's business",
    206: "for clients",
    210: "needs one id on several hooks, which the public sandbox cannot hold apart",
    211: "needs one id on several hooks, which the public sandbox cannot hold apart",
    212: "for clients",
    213: "of a deployment: the checklist of docs/cds_hooks.md",
    215: "no extension is sent",
}

Said = dict[str, Any]


@pytest.fixture(scope="module")
def said(hospital: Ehr) -> dict[str, Said]:
    """Answers of every kind."""
    ehr = hospital
    ehr.fhir.resources[:] = patient_record()
    dangerous = orders(order("Amoxicillin"), order("Heparin", "n2"), order(None, "n3"), selected=["n1"])
    waiting = ehr.fire("patient-view", {"patientId": "p1"}).json()
    card = drafted(ehr)
    ehr.http.headers["Accept-Language"] = "ko"
    korean = {hook: ehr.fire(hook, dangerous).json() for hook in ("patient-view", "order-select", "order-sign")}
    del ehr.http.headers["Accept-Language"]
    return {
        "discovery": {"services": ehr.discover()},
        "waiting": waiting,
        "draft": {"cards": [card]},
        "select": ehr.fire("order-select", dangerous).json(),
        "sign": ehr.fire("order-sign", dangerous).json(),
        "note": ehr.fire("order-sign", orders(order(None))).json(),
        "nothing": ehr.fire("order-sign", orders(order("Docusate sodium"))).json(),
        **{f"korean {hook}": answer for hook, answer in korean.items()},
    }


@pytest.fixture(scope="module")
def cards(said: dict[str, Said]) -> list[dict[str, Any]]:
    found = [card for answer in said.values() for card in answer.get("cards", ())]
    assert {card["indicator"] for card in found} == {"info", "warning", "critical"}
    return found


@pytest.fixture(scope="module")
def services(said: dict[str, Said]) -> list[dict[str, Any]]:
    return said["discovery"]["services"]


@pytest.fixture(scope="module")
def suggestions(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return inside(cards, "suggestions")


@pytest.fixture(scope="module")
def actions(suggestions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return inside(suggestions, "actions")


def inside(holders: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    found = [one for holder in holders for one in holder.get(name, ())]
    assert found
    return found


def walk(value: Any) -> Iterator[Any]:
    yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(one)


def keys(value: Any) -> set[str]:
    return {key for one in walk(value) if isinstance(one, dict) for key in one}


def is_string(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_absolute(url: Any) -> bool:
    return is_string(url) and url.startswith(f"{URL}/")


def card_of(said: dict[str, Said], name: str) -> dict[str, Any]:
    card: dict[str, Any] = said[name]["cards"][0]
    return card


def post(ehr: Ehr, path: str, **how: Any) -> Any:
    url = f"{URL}/cds-services/{path}"
    return ehr.http.post(url, headers={**ehr.signed(url), **how.pop("headers", {})}, **how)


def discovered_with(ehr: Ehr, **claims: Any) -> Any:
    url = f"{URL}/cds-services"
    return ehr.http.get(url, headers=ehr.signed(url, **claims))


def test_the_table_is_whole_and_every_row_has_a_test_or_a_reason() -> None:
    tested = {int(found[1]) for name in globals() if (found := re.match(r"test_row_(\d{3})_", name))}
    assert len(ROWS) == 119
    assert tested & set(NOT_TESTED) == set()
    assert tested | set(NOT_TESTED) == set(ROWS)


def test_no_row_that_applies_is_excused() -> None:
    assert {number for number in NOT_TESTED if ROWS[number]["applies"] == "yes"} == set()


# --- JSON -----------------------------------------------------------------------------------------------


def test_row_001_payloads_are_json_in_both_directions(hospital: Ehr) -> None:
    answers = [discovered_with(hospital), hospital.fire("patient-view"), hospital.tell("patient-view", outcome())]
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    refused = post(
        hospital, "rx-draft-patient-view", content="hook=patient-view", headers={"Content-Type": "text/plain"}
    )
    assert refused.status_code == 415
    assert refused.json()["resourceType"] == "OperationOutcome"


def test_row_002_a_plain_http_address_is_refused_outside_loopback(tmp_path: Path) -> None:
    from etl.errors import ConfigError

    with pytest.raises(ConfigError):
        check_exposure(Settings(public_url="http://rx.example.org"), "0.0.0.0", tls=False, keys=True)  # noqa: S104


def test_row_003_nothing_is_null_or_empty_but_the_list_of_cards(said: dict[str, Said]) -> None:
    empty = [one for answer in said.values() for one in walk(answer) if one in (None, "", [], {})]
    assert empty == [said["nothing"]["cards"]] == [[]]


# --- discovery ------------------------------------------------------------------------------------------


def test_row_004_discovery_lies_at_cds_services(hospital: Ehr) -> None:
    assert discovered_with(hospital).status_code == 200


def test_row_005_discovery_answers_while_the_model_is_loading(connect: Callable[..., Ehr]) -> None:
    ehr = connect(load=never)
    assert ehr.http.get("/readyz").status_code == 503
    assert len(ehr.discover()) == 3


def test_row_006_discovery_is_an_object_with_services(said: dict[str, Said]) -> None:
    assert isinstance(said["discovery"]["services"], list)


def test_row_007_each_service_has_a_hook(services: list[dict[str, Any]]) -> None:
    assert [one["hook"] for one in services] == ["patient-view", "order-select", "order-sign"]


def test_row_008_each_service_has_a_title(services: list[dict[str, Any]]) -> None:
    assert all(is_string(one["title"]) for one in services)


def test_row_009_each_service_has_a_description(services: list[dict[str, Any]]) -> None:
    assert all(is_string(one["description"]) for one in services)


def test_row_010_each_id_is_unique_and_the_end_of_a_url_that_answers(
    hospital: Ehr, services: list[dict[str, Any]]
) -> None:
    assert len({one["id"] for one in services}) == len(services)
    for one in services:
        assert hospital.fire(one["hook"], orders(order("Aspirin"), selected=["n1"])).status_code == 200


def test_row_011_prefetch_is_an_object_of_queries(services: list[dict[str, Any]]) -> None:
    assert all(is_string(query) for one in services for query in one["prefetch"].values())


def test_row_012_usage_requirements_are_told(services: list[dict[str, Any]]) -> None:
    assert all("never calls the FHIR server" in one["usageRequirements"] for one in services)


def test_row_013_discovery_answers_200(hospital: Ehr) -> None:
    assert discovered_with(hospital).status_code == 200


def test_row_014_discovery_without_a_token_is_401(hospital: Ehr) -> None:
    refused = hospital.http.get(f"{URL}/cds-services")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["issue"][0]["code"] == "login"


def test_row_016_a_call_goes_to_cds_services_and_the_id(hospital: Ehr) -> None:
    assert hospital.fire("patient-view").status_code == 200
    unknown = post(hospital, "rx-other", json={})
    assert (unknown.status_code, unknown.json()["issue"][0]["code"]) == (404, "not-found")


# --- prefetch -------------------------------------------------------------------------------------------


def never() -> Drafter:
    import threading

    threading.Event().wait(20)
    raise AssertionError("nobody waits that long")


def test_row_027_no_hook_waits_for_a_model(connect: Callable[..., Ehr]) -> None:
    ehr = connect(load=never)
    assert "OperationOutcome" not in ehr.fire("patient-view").text
    assert ehr.fire("order-sign", orders(order("Amoxicillin"))).json()["cards"][0]["indicator"] == "critical"


def test_row_028_data_comes_as_prefetch(said: dict[str, Said]) -> None:
    assert "2 diagnoses" in card_of(said, "draft")["summary"]


def test_row_029_every_key_that_is_read_is_declared(services: list[dict[str, Any]]) -> None:
    assert all(set(one["prefetch"]) == set(QUERIES) for one in services)


def test_row_034_without_prefetch_the_call_is_refused_though_a_fhir_server_is_named(hospital: Ehr) -> None:
    server = {"fhirServer": "https://fhir.example.org", "prefetch": {}}
    assert hospital.fire("patient-view", **server).status_code == 412


TOKENS = re.compile(r"{{([^{}]*)}}")


def templates() -> list[str]:
    return [query for _, query in QUERIES.values()]


def test_row_035_templates_use_tokens() -> None:
    assert all(TOKENS.search(template) for template in templates())


def test_row_036_each_template_has_a_key(services: list[dict[str, Any]]) -> None:
    assert all(re.fullmatch(r"\w+", key) for one in services for key in one["prefetch"])


def test_row_052_an_operation_outcome_counts_as_no_answer(hospital: Ehr) -> None:
    failed = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
    in_bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": failed}]}
    for value in (failed, in_bundle):
        prefetch = prefetched(hospital) | {"conditions": value}
        assert hospital.fire("patient-view", prefetch=prefetch).status_code == 412


@pytest.mark.parametrize("key", ["patient", "conditions"])
def test_row_054_required_prefetch_missing_is_412(hospital: Ehr, key: str) -> None:
    prefetch = prefetched(hospital)
    del prefetch[key]
    refused = hospital.fire("patient-view", prefetch=prefetch)
    assert refused.status_code == 412
    assert refused.json()["issue"][0]["code"] == "processing"
    assert "patient, conditions" in refused.json()["issue"][0]["details"]["text"]


def test_row_055_tokens_stand_in_double_braces() -> None:
    assert all("{" not in TOKENS.sub("", template) for template in templates())


def test_row_056_tokens_are_context_paths() -> None:
    assert {token for template in templates() for token in TOKENS.findall(template)} == {"context.patientId"}


def test_row_057_tokens_are_primitive_fields_of_the_context() -> None:
    assert {token.partition(".")[2] for template in templates() for token in TOKENS.findall(template)} == {"patientId"}


def test_row_058_templates_keep_to_simple_queries() -> None:
    allowed = {"patient", "status", "code", "_count", "_sort"}
    for template in templates():
        kind, _, query = template.partition("?")
        names = {part.partition("=")[0] for part in query.split("&") if part}
        assert names <= allowed
        assert re.fullmatch(r"[A-Z]\w+(/{{context\.patientId}})?", kind)


def test_row_059_context_tokens_are_named_so() -> None:
    assert all(token.startswith("context.") for template in templates() for token in TOKENS.findall(template))


def prefetched(ehr: Ehr) -> dict[str, Any]:
    service = next(one for one in ehr.services.values() if one["hook"] == "patient-view")
    return ehr.prefetch(service["prefetch"], {"patientId": "p1"})


# --- cards ----------------------------------------------------------------------------------------------


def test_row_074_an_answer_is_an_object_with_cards(said: dict[str, Said]) -> None:
    assert all(set(answer) == {"cards"} for name, answer in said.items() if name != "discovery")


def test_row_076_calls_may_fail_with_other_statuses(hospital: Ehr) -> None:
    refused = hospital.fire("patient-view", hook="order-sign")
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (400, "invalid")


def test_row_077_no_advice_is_an_empty_list(said: dict[str, Said]) -> None:
    assert said["nothing"] == {"cards": []}


def test_row_080_uuids_are_unique(said: dict[str, Said]) -> None:
    for answer in said.values():
        names = [card["uuid"] for card in answer.get("cards", ())]
        assert len(set(names)) == len(names)
        assert all(str(uuid.UUID(name)) == name for name in names)


def test_row_081_every_card_has_a_uuid(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(card["uuid"]) for card in cards)


def test_row_082_the_audit_trail_holds_the_cards(hospital: Ehr, cards: list[dict[str, Any]]) -> None:
    from serving.store.audit import Audit

    trail = Audit(hospital.http.app.state.service.store)
    shown = {event.object_id for event in trail.events() if event.action == "card.shown"}
    assert {card["uuid"] for card in cards} <= shown


def test_row_083_summaries_have_fewer_than_140_characters(cards: list[dict[str, Any]]) -> None:
    assert all(0 < len(card["summary"]) < 140 for card in cards)


def test_row_084_every_card_has_a_detail(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(card["detail"]) for card in cards)


def test_row_085_details_are_markdown_without_html(cards: list[dict[str, Any]]) -> None:
    assert not any(re.search(r"(?<!\\)<", card["detail"]) for card in cards)


def test_row_087_every_card_has_an_indicator(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(card["indicator"]) for card in cards)


def test_row_088_indicators_are_of_three(cards: list[dict[str, Any]]) -> None:
    assert {card["indicator"] for card in cards} <= {"info", "warning", "critical"}


def test_row_090_every_card_has_a_source(cards: list[dict[str, Any]]) -> None:
    assert all(isinstance(card["source"], dict) for card in cards)


def test_row_092_suggestions_are_a_list(said: dict[str, Said]) -> None:
    assert isinstance(card_of(said, "draft")["suggestions"], list)


def test_row_093_suggestions_without_a_selection_behavior_cannot_be_made(said: dict[str, Said]) -> None:
    card = card_of(said, "draft")
    Card.model_validate(card)
    with pytest.raises(ValidationError):
        Card.model_validate({key: value for key, value in card.items() if key != "selectionBehavior"})


def test_row_094_safety_cards_have_no_suggestions(said: dict[str, Said]) -> None:
    assert all("suggestions" not in card for card in said["sign"]["cards"])


def test_row_095_several_suggestions_may_be_taken(said: dict[str, Said]) -> None:
    assert card_of(said, "draft")["selectionBehavior"] == "any"


def test_row_096_a_selection_behavior_stands_with_suggestions_and_only_there(cards: list[dict[str, Any]]) -> None:
    assert all(("suggestions" in card) == ("selectionBehavior" in card) for card in cards)


def test_row_098_override_reasons_are_codings(cards: list[dict[str, Any]]) -> None:
    assert all(set(reason) == {"system", "code", "display"} for reason in inside(cards, "overrideReasons"))


def test_row_099_safety_cards_offer_override_reasons(said: dict[str, Said]) -> None:
    assert all(card["overrideReasons"] for card in said["sign"]["cards"])


def test_row_100_each_override_reason_has_words(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(reason["display"]) for reason in inside(cards, "overrideReasons"))


def test_row_103_links_are_a_list(cards: list[dict[str, Any]]) -> None:
    assert all(isinstance(card["links"], list) for card in cards if "links" in card)


def test_row_104_a_card_about_no_rule_has_no_links(said: dict[str, Said]) -> None:
    assert "links" not in card_of(said, "note")


def test_row_105_every_source_has_a_label(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(card["source"]["label"]) for card in cards)


def test_row_106_labels_name_the_model_or_the_rules(cards: list[dict[str, Any]]) -> None:
    assert all(re.search("model|rules|모델|규칙", card["source"]["label"]) for card in cards)


def test_row_107_source_urls_are_absolute(cards: list[dict[str, Any]]) -> None:
    assert all(is_absolute(card["source"]["url"]) for card in cards)


def test_row_108_every_source_has_a_url(cards: list[dict[str, Any]]) -> None:
    assert all("url" in card["source"] for card in cards)


def test_row_109_source_urls_are_about_the_model_or_the_rules_and_nothing_else(cards: list[dict[str, Any]]) -> None:
    assert {card["source"]["url"] for card in cards} == {f"{URL}/about/model", f"{URL}/about/rules"}


def test_row_110_the_drill_down_is_a_link(said: dict[str, Said]) -> None:
    assert [link["label"] for link in card_of(said, "draft")["links"]] == ["Open review page"]


def test_row_115_topics_are_codings(cards: list[dict[str, Any]]) -> None:
    assert all({"system", "code"} <= set(card["source"]["topic"]) for card in cards)


def test_row_116_every_source_has_a_topic(cards: list[dict[str, Any]]) -> None:
    assert {card["source"]["topic"]["code"] for card in cards} == {"draft-rx", "screening"}


# --- suggestions, actions, links ------------------------------------------------------------------------


def test_row_117_suggestions_have_labels(suggestions: list[dict[str, Any]]) -> None:
    assert all(is_string(one["label"]) for one in suggestions)


def test_row_118_every_suggestion_has_a_uuid(suggestions: list[dict[str, Any]]) -> None:
    assert len({one["uuid"] for one in suggestions}) == len(suggestions)


def test_row_119_uuids_of_suggestions_are_strings(suggestions: list[dict[str, Any]]) -> None:
    assert all(is_string(one["uuid"]) for one in suggestions)


def test_row_123_every_suggestion_has_actions(suggestions: list[dict[str, Any]]) -> None:
    assert all("actions" in one for one in suggestions)


def test_row_124_actions_are_a_list(suggestions: list[dict[str, Any]]) -> None:
    assert all(isinstance(one["actions"], list) for one in suggestions)


def test_row_125_a_suggestion_is_one_drug(suggestions: list[dict[str, Any]]) -> None:
    assert all(len(one["actions"]) == 1 for one in suggestions)


def test_row_127_actions_only_create(actions: list[dict[str, Any]]) -> None:
    assert {one["type"] for one in actions} == {"create"}


def test_row_128_actions_have_descriptions(actions: list[dict[str, Any]]) -> None:
    assert all(is_string(one["description"]) for one in actions)


def test_row_129_descriptions_can_be_shown(actions: list[dict[str, Any]]) -> None:
    drug = actions[0]["resource"]["medicationCodeableConcept"]["text"]
    assert drug in actions[0]["description"]


def test_row_130_resources_are_draft_proposals(actions: list[dict[str, Any]]) -> None:
    made = {(one["resource"]["resourceType"], one["resource"]["status"], one["resource"]["intent"]) for one in actions}
    assert made == {("MedicationRequest", "draft", "proposal")}


def test_row_131_the_new_resource_is_whole_and_takes_no_id(actions: list[dict[str, Any]]) -> None:
    from fhir.resources.R4B.medicationrequest import MedicationRequest

    assert all(MedicationRequest.model_validate(one["resource"]).id is None for one in actions)


def test_row_136_reasons_can_be_read(cards: list[dict[str, Any]]) -> None:
    assert all(" " in reason["display"] for reason in inside(cards, "overrideReasons"))


def test_row_138_links_have_labels(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(link["label"]) for link in inside(cards, "links"))


def test_row_139_links_have_urls(cards: list[dict[str, Any]]) -> None:
    assert all(is_absolute(link["url"]) for link in inside(cards, "links"))


def test_row_140_links_name_a_draft_or_a_rule_and_no_patient(cards: list[dict[str, Any]]) -> None:
    paths = [link["url"].removeprefix(URL) for link in inside(cards, "links")]
    assert all(re.fullmatch(r"/drafts/[\w-]{20,}|/about/rules/[\w-]+", path) for path in paths)
    assert not any("p1" in path.split("/") for path in paths)


def test_row_141_links_have_a_type(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(link["type"]) for link in inside(cards, "links"))


def test_row_142_links_are_absolute(cards: list[dict[str, Any]]) -> None:
    assert {link["type"] for link in inside(cards, "links")} == {"absolute"}


def test_row_146_no_link_has_an_app_context(cards: list[dict[str, Any]]) -> None:
    assert "appContext" not in keys(cards)


def test_row_147_app_context_is_not_with_absolute_links(cards: list[dict[str, Any]]) -> None:
    assert all(set(link) == {"label", "url", "type"} for link in inside(cards, "links"))


# --- feedback, access, the rest -------------------------------------------------------------------------


def outcome(**more: Any) -> dict[str, Any]:
    return {"card": str(uuid.uuid4()), "outcome": "overridden", **more}


def test_row_148_feedback_is_taken(hospital: Ehr, said: dict[str, Said]) -> None:
    card = card_of(said, "draft")
    answer = hospital.click("patient-view", card, card["suggestions"][0])
    assert (answer.status_code, answer.json()) == (200, {})


def test_row_176_calls_without_a_signature_are_refused(hospital: Ehr) -> None:
    for path in ("rx-draft-patient-view", "rx-draft-patient-view/feedback"):
        assert hospital.http.post(f"{URL}/cds-services/{path}", json={}).status_code == 401
    forged = Ehr(hospital.http, URL, hospital.fhir, make_other_key())
    assert discovered_with(forged).status_code == 401


def make_other_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def test_row_177_no_client_configured_means_nobody_may_call(connect: Callable[..., Ehr]) -> None:
    import httpx2

    with pytest.raises(httpx2.HTTPStatusError):
        connect(cds_clients=())


def test_row_195_unknown_issuers_and_unlisted_key_urls_are_refused(hospital: Ehr) -> None:
    assert discovered_with(hospital, iss="https://other.example.org").status_code == 401
    assert discovered_as(hospital, jku="https://evil.example.org/jwks.json").status_code == 401


def test_row_199_keys_may_be_exchanged_as_a_file(tmp_path: Path) -> None:
    _, jwks = make_key(tmp_path)
    assert CdsClient(issuer=ISSUER, jwks_file=jwks).jku is None


def test_row_200_algorithms_are_those_of_rfc_7518(hospital: Ehr) -> None:
    assert discovered_as(hospital).status_code == 200


def test_row_201_alg_none_is_refused(hospital: Ehr) -> None:
    assert discovered_as(hospital, key=None, algorithm="none").status_code == 401


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_row_203_symmetric_algorithms_are_refused(hospital: Ehr, algorithm: str) -> None:
    assert discovered_as(hospital, key="s" * 64, algorithm=algorithm).status_code == 401


def test_row_205_two_algorithms_are_accepted() -> None:
    from serving.access.cds_tokens import ALGORITHMS

    assert set(ALGORITHMS) == {"ES384", "RS384"}


def discovered_as(ehr: Ehr, key: Any = "its own", algorithm: str = "ES384", **header: Any) -> Any:
    import time

    import jwt

    url = f"{URL}/cds-services"
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
    signer = ehr.key if key == "its own" else key
    token = jwt.encode(claims, signer, algorithm, headers={"kid": KID, **header})
    return ehr.http.get(url, headers={"Authorization": f"Bearer {token}"})


def test_row_208_listed_origins_may_call_from_a_browser_and_others_may_not(connect: Callable[..., Ehr]) -> None:
    ehr = connect(cors_origins=("https://ehr.example.org",))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    url = f"{URL}/cds-services/rx-draft-patient-view"
    listed = ehr.http.options(url, headers={"Origin": "https://ehr.example.org", **asked})
    other = ehr.http.options(url, headers={"Origin": "https://evil.example.org", **asked})
    assert (listed.status_code, listed.headers["access-control-allow-origin"]) == (200, "https://ehr.example.org")
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


def test_row_214_extensions_are_passed_over_and_none_is_sent(hospital: Ehr, said: dict[str, Said]) -> None:
    assert hospital.fire("patient-view", extension={"org.example": {"a": 1}}).status_code == 200
    outside = {key for answer in said.values() for card in answer.get("cards", ()) for key in card}
    assert "extension" not in outside


def codings(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*inside(cards, "overrideReasons"), *(card["source"]["topic"] for card in cards)]


def test_row_216_codings_have_codes(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(coding["code"]) for coding in codings(cards))


def test_row_217_codings_have_systems(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(coding["system"]) for coding in codings(cards))


def test_row_218_codes_are_words_of_a_code_system(cards: list[dict[str, Any]]) -> None:
    assert all(re.fullmatch(r"[\w-]+", coding["code"]) for coding in codings(cards))


def test_row_219_override_reasons_have_displays(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(reason["display"]) for reason in inside(cards, "overrideReasons"))


def test_row_220_topics_may_have_displays(cards: list[dict[str, Any]]) -> None:
    assert all(is_string(card["source"]["topic"].get("display", "-")) for card in cards)


def test_nothing_is_ordered_recommended_or_changed_behind_anybodys_back(said: dict[str, Said]) -> None:
    forbidden = {"systemActions", "isRecommended", "actionSelectionBehavior", "resourceId", "dosageInstruction"}
    assert not forbidden & keys(said)


def test_no_answer_names_the_patient_but_as_the_subject_of_a_proposal(said: dict[str, Said]) -> None:
    text = json.dumps(said)
    assert "Test Patient" not in text
    assert "1950" not in text
