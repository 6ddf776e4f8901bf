from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fhir.read import MOST_RESOURCES, by_reference, read_found, resolve, text

WORDS = ("Bundle", "Condition", "OperationOutcome", "Patient/p1", "Patient/p2", "next", "error", "p1")
KEYS = ("resourceType", "entry", "resource", "link", "relation", "issue", "severity", "subject", "reference", "id")
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=5),
    max_leaves=30,
)


def condition(patient: str | None = "Patient/p1", **more: Any) -> dict[str, Any]:
    subject = {} if patient is None else {"subject": {"reference": patient}}
    return {"resourceType": "Condition", **subject, **more}


def searchset(*resources: Any, **more: Any) -> dict[str, Any]:
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}


def failure(severity: str = "error") -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "exception"}]}


def test_null_is_an_answer_and_an_absent_one_is_none() -> None:
    assert (read_found(None, "Condition", "p1").given, read_found(None, "Condition", "p1").complete) == (True, True)
    assert not read_found("nonsense", "Condition", "p1").given


def test_an_empty_searchset_is_a_complete_answer() -> None:
    found = read_found({"resourceType": "Bundle", "type": "searchset"}, "Condition", "p1")
    assert (found.resources, found.given, found.complete) == ((), True, True)


@pytest.mark.parametrize("value", [failure(), searchset(failure()), {"resourceType": "OperationOutcome"}])
def test_a_failure_counts_as_not_given(value: Any) -> None:
    found = read_found(value, "Condition", "p1")
    assert (found.given, found.complete) == (False, False)


def test_a_mere_hint_beside_the_data_does_no_harm() -> None:
    found = read_found(searchset(condition(), failure("information")), "Condition", "p1")
    assert (len(found.resources), found.given, found.complete) == (1, True, True)


def test_a_failure_beside_data_makes_it_incomplete() -> None:
    found = read_found(searchset(condition(), failure()), "Condition", "p1")
    assert (len(found.resources), found.given, found.complete) == (1, True, False)


def test_one_page_of_several_is_incomplete() -> None:
    page = searchset(condition(), link=[{"relation": "self"}, {"relation": "next", "url": "https://ehr/2"}])
    assert not read_found(page, "Condition", "p1").complete


def test_more_resources_than_anybody_has_are_cut_and_incomplete() -> None:
    found = read_found(searchset(*[condition()] * (MOST_RESOURCES + 1)), "Condition", "p1")
    assert (len(found.resources), found.complete) == (MOST_RESOURCES, False)


@pytest.mark.parametrize("reference", ["Patient/p2", "https://ehr.org/fhir/Patient/p2", "Patient/p2/_history/1"])
def test_what_is_about_somebody_else_is_left_out_and_makes_the_answer_incomplete(reference: str) -> None:
    found = read_found(searchset(condition(reference), condition()), "Condition", "p1")
    assert (len(found.resources), found.complete) == (1, False)


@pytest.mark.parametrize("reference", [None, "Patient/p1", "https://ehr/fhir/Patient/p1/_history/3", "urn:uuid:1"])
def test_what_may_be_about_the_patient_is_taken(reference: str | None) -> None:
    assert read_found(condition(reference), "Condition", "p1").resources


def test_another_patient_is_nobody() -> None:
    assert not read_found({"resourceType": "Patient", "id": "p2"}, "Patient", "p1").resources


def test_included_resources_of_other_types_are_passed_over() -> None:
    found = read_found(searchset(condition(), {"resourceType": "Medication", "id": "m1"}), "Condition", "p1")
    assert (len(found.resources), found.complete) == (1, True)


def test_references_lead_to_contained_resources_and_to_those_beside() -> None:
    within = {"contained": [{"resourceType": "Medication", "id": "m1", "status": "inner"}]}
    beside = by_reference(
        {
            "entry": [
                {"fullUrl": "urn:uuid:7", "resource": {"resourceType": "Medication", "id": "m1", "status": "outer"}}
            ]
        }
    )
    for reference, status in (
        ("#m1", "inner"),
        ("Medication/m1", "outer"),
        ("https://ehr/fhir/Medication/m1", "outer"),
        ("urn:uuid:7", "outer"),
    ):
        found = resolve({"reference": reference}, within, beside)
        assert found is not None
        assert found["status"] == status
    assert resolve({"reference": "Medication/m2"}, within, beside) is None


@given(st.text())
def test_text_is_one_line_that_can_be_seen(raw: str) -> None:
    said = text(raw)
    assert said is None or (said.isprintable() and said == said.strip() and len(said) <= 500)


@given(ANY_JSON)
def test_any_json_is_read_without_an_error(value: Any) -> None:
    found = read_found(value, "Condition", "p1")
    assert found.given or not found.resources
    assert all(isinstance(one, dict) for one in found.resources)
    by_reference(value)
