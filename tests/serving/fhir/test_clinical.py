from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fhir.clinical import (
    CREATININE,
    POTASSIUM,
    age,
    allergies,
    diagnoses,
    drug_name,
    is_running,
    latest,
    moment,
    sex,
)
from serving.fhir.systems import ATC, LOINC, RXNORM

CM = "http://hl7.org/fhir/sid/icd-10-cm"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def coded(*codings: tuple[str, str] | tuple[str, str, str], **more: Any) -> dict[str, Any]:
    names = ("system", "code", "display")
    return {"coding": [dict(zip(names, coding, strict=False)) for coding in codings], **more}


def condition(code: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "code": code, **more}


def observation(value: Any, unit: str, when: str | None = "2026-11-20T12:00:00Z", **more: Any) -> dict[str, Any]:
    return {
        "code": coded((LOINC, "2160-0")),
        "valueQuantity": {"value": value, "unit": unit},
        "effectiveDateTime": when,
        **more,
    }


def everything_known(name: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("birth_date", "years"),
    [
        ("1950-11-21", 76),
        ("1950-11-22", 75),
        ("1950-12", 75),
        ("1950", 75),  # the fewest it can be
        ("2026-11-21", 0),
        ("2027-01-01", None),
        ("1890-01-01", None),
        ("1950-1-1", None),
        ("", None),
        (1950, None),
        (None, None),
    ],
)
def test_the_age_is_that_of_the_birth_date(birth_date: Any, years: int | None) -> None:
    assert age({"birthDate": birth_date}, date(2026, 11, 21)) == years


def test_only_two_of_the_genders_are_a_sex_that_models_know() -> None:
    genders = ["female", "male", "other", "unknown", None, 1]
    assert [sex({"gender": gender}) for gender in genders] == ["F", "M", None, None, None, None]


@pytest.mark.parametrize(
    ("system", "version"),
    [
        (CM, 10),
        ("http://hl7.org/fhir/sid/icd-9-cm", 9),
        ("http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8", 10),
        ("urn:oid:2.16.840.1.113883.6.90", 10),
    ],
)
def test_coded_diagnoses_keep_code_and_version(system: str, version: int) -> None:
    [found] = diagnoses([condition(coded((system, "I50.9")))])
    assert found == {"icd_code": "I50.9", "icd_version": version}


def test_of_several_codings_the_icd_10_one_is_taken_whatever_stands_first() -> None:
    both = coded(("http://snomed.info/sct", "42343007"), ("http://hl7.org/fhir/sid/icd-9-cm", "428.0"), (CM, "I50.9"))
    assert diagnoses([condition(both)]) == [{"icd_code": "I50.9", "icd_version": 10}]


def test_a_diagnosis_in_words_or_in_another_system_is_told_in_words() -> None:
    snomed = coded(("http://snomed.info/sct", "42343007", "Congestive heart failure"))
    found = diagnoses([condition({"text": "심부전"}), condition(snomed), condition({})])
    assert found == [{"text": "심부전"}, {"text": "Congestive heart failure"}]


@pytest.mark.parametrize(
    ("field", "code", "stands"),
    [
        ("clinicalStatus", "active", True),
        ("clinicalStatus", "remission", True),
        ("clinicalStatus", "resolved", False),
        ("clinicalStatus", "inactive", False),
        ("verificationStatus", "entered-in-error", False),
        ("verificationStatus", "refuted", False),
        ("verificationStatus", "provisional", True),
    ],
)
def test_what_is_over_or_never_was_is_no_diagnosis(field: str, code: str, stands: bool) -> None:
    status = coded(("http://terminology.hl7.org/CodeSystem/condition-clinical", code))
    assert bool(diagnoses([condition(coded((CM, "I10")), **{field: status})])) == stands


def test_diagnoses_of_the_stay_come_before_the_problem_list_and_none_twice() -> None:
    stay = {"category": [coded(("x", "encounter-diagnosis"))]}
    listed = [condition(coded((CM, "I10"))), condition(coded((CM, "J18.9")), **stay), condition(coded((CM, "I10")))]
    assert [one["icd_code"] for one in diagnoses(listed)] == ["J18.9", "I10"]


def test_allergies_are_substances_by_name_or_by_what_caused_the_reaction() -> None:
    named = {"code": coded((RXNORM, "7980", "penicillin G"))}
    reacted = {"reaction": [{"substance": {"text": "Latex"}}]}
    assert allergies([named, reacted, {"code": {}}, named]) == ["penicillin G", "Latex"]


def test_a_recorded_no_known_allergy_and_a_refuted_one_are_no_allergies() -> None:
    none = {"code": coded(("http://snomed.info/sct", "716186003", "No known allergy"))}
    refuted = {"code": {"text": "aspirin"}, "verificationStatus": coded(("x", "refuted"))}
    assert allergies([none, refuted]) == []


def test_a_drug_has_rxnorms_name_before_the_written_one_before_its_atc_codes() -> None:
    concept = coded((ATC, "C03CA01"), (RXNORM, "4603", "furosemide"), text="Lasix 40")
    assert drug_name({"medicationCodeableConcept": concept}, {}, everything_known) == "furosemide"
    assert drug_name({"medicationCodeableConcept": {"text": "Lasix 40"}}, {}, everything_known) == "Lasix 40"


def test_a_name_that_screening_knows_is_taken_before_one_that_it_does_not() -> None:
    korean = {"medicationCodeableConcept": coded((ATC, "C03CA01"), text="푸로세미드정40밀리그램")}
    assert drug_name(korean, {}, lambda name: name == "furosemide") == "furosemide"
    assert drug_name(korean, {}, lambda name: False) == "푸로세미드정40밀리그램"


@pytest.mark.parametrize(
    "request_",
    [
        {"medicationReference": {"reference": "#m"}, "contained": [{"id": "m", "code": {"text": "heparin"}}]},
        {"medicationReference": {"reference": "Medication/m"}},
        {"medicationReference": {"reference": "Medication/unseen", "display": "heparin"}},
        {"medicationReference": {"display": "heparin"}},
    ],
)
def test_a_referenced_medication_is_found_wherever_it_stands(request_: dict[str, Any]) -> None:
    beside = {"Medication/m": {"resourceType": "Medication", "id": "m", "code": {"text": "heparin"}}}
    assert drug_name(request_, beside, everything_known) == "heparin"


def test_a_medication_made_of_ingredients_is_named_by_all_of_them_or_not_at_all() -> None:
    def mixed(*names: str | None) -> dict[str, Any]:
        ingredients = [{"itemCodeableConcept": {"text": name}} for name in names]
        medication = {"resourceType": "Medication", "id": "m", "ingredient": ingredients}
        return {"medicationReference": {"reference": "#m"}, "contained": [medication]}

    assert drug_name(mixed("losartan", "amlodipine"), {}, everything_known) == "losartan / amlodipine"
    assert drug_name(mixed("losartan", None), {}, everything_known) is None


def test_orders_that_are_over_or_forbid_a_drug_do_not_run() -> None:
    assert [is_running({"status": status}) for status in (None, "active", "draft", "stopped", "entered-in-error")] == [
        *(True, True, True, False, False)
    ]
    assert not is_running({"status": "active", "doNotPerform": True})


@pytest.mark.parametrize(
    ("value", "unit", "mg_dl"),
    [(1.2, "mg/dL", 1.2), (106.1, "umol/L", 1.2), (106.1, "µmol/L", 1.2), (0.1061, "mmol/L", 1.2)],
)
def test_creatinine_comes_out_in_mg_dl(value: float, unit: str, mg_dl: float) -> None:
    found = latest([observation(value, unit)], CREATININE, NOW)
    assert found == (pytest.approx(mg_dl, abs=0.001), 24.0)


@pytest.mark.parametrize(
    ("value", "unit", "mmol_l"), [(5.9, "mmol/L", 5.9), (5.9, "mEq/L", 5.9), (23.07, "mg/dL", 5.9)]
)
def test_potassium_comes_out_in_mmol_l(value: float, unit: str, mmol_l: float) -> None:
    measured = observation(value, unit) | {"code": coded((LOINC, "2823-3"))}
    assert latest([measured], POTASSIUM, NOW) == (pytest.approx(mmol_l, abs=0.001), 24.0)


@pytest.mark.parametrize(
    "unreadable",
    [
        observation(1.2, "mg/dL", when=None),
        observation(1.2, "ng/mL"),
        observation(1.2, ""),
        observation("1.2", "mg/dL"),
        observation(True, "mg/dL"),
        observation(-1, "mg/dL"),
        observation(float("inf"), "mg/dL"),
        observation(10**400, "mg/dL"),
        observation(1.2, "mg/dL", status="entered-in-error"),
        observation(1.2, "mg/dL", valueQuantity={"value": 0.2, "unit": "mg/dL", "comparator": "<"}),
        observation(1.2, "mg/dL", code=coded((LOINC, "2345-7"))),  # glucose, from a server that ignores the query
        observation(1.2, "mg/dL", code=coded(("http://local", "2160-0"))),
    ],
)
def test_a_measurement_that_cannot_be_trusted_is_none(unreadable: dict[str, Any]) -> None:
    assert latest([unreadable], CREATININE, NOW) is None


def test_of_several_measurements_the_newest_counts_and_a_future_one_is_of_now() -> None:
    measured = [observation(1.0, "mg/dL", when) for when in ("2026-11-19", "2026-11-21T11:00:00+00:00", "2026-11-20")]
    assert latest(measured, CREATININE, NOW) == (1.0, 1.0)
    assert latest([observation(1.0, "mg/dL", "2027-01-01")], CREATININE, NOW) == (1.0, 0.0)


@given(st.text() | st.integers() | st.none())
def test_no_text_breaks_the_reading_of_a_time(value: Any) -> None:
    read = moment(value)
    assert read is None or read.tzinfo is UTC


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("code", "coding", "system", "display", "text", "reaction", "substance", "category", "status"),
                    *("medicationCodeableConcept", "medicationReference", "reference", "contained", "ingredient"),
                    *(
                        "valueQuantity",
                        "value",
                        "unit",
                        "effectiveDateTime",
                        "effectivePeriod",
                        "end",
                        "clinicalStatus",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["code", "clinicalStatus", "category", "reaction", "status"]), ANY)), ANY
)
def test_any_json_in_a_resource_is_read_without_an_error(resources: list[dict[str, Any]], other: Any) -> None:
    for one in diagnoses(resources):
        assert set(one) in ({"icd_code", "icd_version"}, {"text"})
    assert all(isinstance(name, str) for name in allergies(resources))
    for one in resources:
        drug_name(one | {"medicationCodeableConcept": other}, {}, everything_known)
        drug_name(one | {"medicationReference": other}, {}, everything_known)
        latest([one | {"valueQuantity": other, "effectivePeriod": other}], CREATININE, NOW)
