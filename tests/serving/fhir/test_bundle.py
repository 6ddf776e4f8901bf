from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from serving.fhir.bundle import NOT_IDENTIFIED, draft_bundle, proposal
from tests.serving.fhir.drafts import BASE, draft

GOLDEN = Path(__file__).parent / "draft_bundle.json"
NODE = Path(__file__).parents[2] / "node"


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def drugs(bundle: dict[str, Any]) -> list[str]:
    return [one["medicationCodeableConcept"]["text"] for one in resources(bundle, "MedicationRequest")]


def test_the_bundle_is_the_golden_one() -> None:
    bundle = draft_bundle(draft(), BASE, "p1", "e1")
    assert json.dumps(bundle, indent=2, ensure_ascii=False) + "\n" == GOLDEN.read_text("utf-8")


def test_rejected_drugs_are_left_out_and_edited_ones_stand_as_edited() -> None:
    assert drugs(draft_bundle(draft(), BASE)) == ["furosemide", "apixaban", "losartan / hydrochlorothiazide"]


def test_an_edited_drug_has_neither_the_code_nor_the_probability_of_the_first() -> None:
    edited = resources(draft_bundle(draft(), BASE), "MedicationRequest")[1]
    assert "coding" not in edited["medicationCodeableConcept"]
    assert [extension["url"] for extension in edited["extension"]] == [f"{BASE}/fhir/StructureDefinition/draft-rank"]


def test_several_atc_codes_are_no_synonyms_and_are_not_written() -> None:
    both = resources(draft_bundle(draft(), BASE), "MedicationRequest")[2]
    assert "coding" not in both["medicationCodeableConcept"]


def test_nothing_is_ordered_and_no_dose_is_invented() -> None:
    bundle = draft_bundle(draft(), BASE, "p1")
    requests = resources(bundle, "MedicationRequest")
    assert bundle["type"] == "collection"
    assert {(one["status"], one["intent"]) for one in requests} == {("draft", "proposal")}
    assert not any("dosageInstruction" in one or "reasonCode" in one for one in requests)
    assert all("No dose proposed" in one["note"][0]["text"] for one in requests)


def test_the_tiers_become_severities_and_the_implicated_rows_can_be_found() -> None:
    bundle = draft_bundle(draft(), BASE)
    names = {entry["fullUrl"] for entry in bundle["entry"]}
    issues = resources(bundle, "DetectedIssue")
    assert [issue["severity"] for issue in issues] == ["high", "moderate", "low"]
    assert {one["reference"] for issue in issues for one in issue["implicated"] if "reference" in one} <= names
    assert issues[0]["implicated"][1] == {"display": "amiodarone"}


def test_the_same_draft_gives_the_same_bytes_and_another_one_other_names() -> None:
    other = draft() | {"draft_id": "d-2"}
    first, again, second = (draft_bundle(one, BASE) for one in (draft(), draft(), other))
    assert json.dumps(first) == json.dumps(again)
    assert not {e["fullUrl"] for e in first["entry"]} & {e["fullUrl"] for e in second["entry"]}


def test_a_draft_of_nobody_named_says_so_and_names_nobody() -> None:
    bundle = draft_bundle(draft(), BASE)
    assert {one["subject"]["display"] for one in resources(bundle, "MedicationRequest")} == {NOT_IDENTIFIED}
    assert "Patient/" not in json.dumps(bundle)


def test_the_bundle_tells_what_was_screened() -> None:
    [outcome] = resources(draft_bundle(draft(), BASE), "OperationOutcome")
    assert outcome["issue"][0]["details"]["text"] == "3 rules fired. 3 of 3 drugs screened."


@pytest.mark.parametrize("patient", [None, "p1"])
def test_fhir_resources_takes_the_bundle(patient: str | None) -> None:
    bundle = draft_bundle(draft(), BASE, patient, patient and "e1")
    assert Bundle.model_validate(bundle).type == "collection"


def test_the_npm_validator_takes_the_bundle_and_would_not_take_a_wrong_one() -> None:
    good = [draft_bundle(draft(), BASE), draft_bundle(draft(), BASE, "p1", "e1"), proposal("furosemide").to_json()]
    wrong = copy.deepcopy(good[0])
    wrong["entry"][0]["resource"]["status"] = "bogus"
    found = validate([*good, wrong])
    assert [(one["position"], one["location"]) for one in found] == [(3, "MedicationRequest.status")], found


def validate(bundles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "fhir").is_dir():
        pytest.skip(f"npm's fhir is not installed; run npm ci in {NODE}")
    run = subprocess.run(
        [node, "validate.mjs"], cwd=NODE, input=json.dumps(bundles), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in run.stdout.splitlines()]
