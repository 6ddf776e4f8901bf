"""What is asked and how it is read: exactly the schema, or an error with a name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.outside.endpoint import Reply
from etl.outside.reading import State
from evaluation.judge.protocol import (
    LIST,
    UNIT,
    Opinion,
    Reading,
    Verdict,
    is_quote,
    read_counts,
    read_opinion,
    read_protocol,
)

OPINION = {
    "indication": "Y",
    "effectiveness": "Y",
    "contraindication": "N",
    "duplication": "N",
    "evidence": "heart failure",
    "verdict": "appropriate",
}
CHART = "Sex: F\nDiagnoses:\n- Congestive heart failure, unspecified"


def read(text: str | None, finish_reason: str = "stop", refused: bool = False) -> Reading:
    return read_opinion(Reply("m", text, finish_reason, refused), CHART)


def test_a_whole_answer_is_its_verdict_with_the_quote_checked() -> None:
    found = read(json.dumps(OPINION))
    assert (found.state, found.verdict, found.evidence_ok) == (State.ANSWERED, Verdict.APPROPRIATE, True)
    assert json.loads(found.criteria or "")["derived"] == "appropriate"


def test_a_fence_around_the_answer_is_taken_off() -> None:
    assert read(f"```json\n{json.dumps(OPINION, indent=1)}\n```").verdict is Verdict.APPROPRIATE


WRONG = {
    "no JSON": "The drug is APPROPRIATE.",
    "half a JSON": json.dumps(OPINION)[:-4],
    "a word before": "Sure! " + json.dumps(OPINION),
    "a list": "[1]",
    "null": "null",
    "empty": "",
    "a missing key": json.dumps({k: v for k, v in OPINION.items() if k != "duplication"}),
    "an extra key": json.dumps({**OPINION, "comment": "fine"}),
    "another letter": json.dumps({**OPINION, "indication": "y"}),
    "another verdict": json.dumps({**OPINION, "verdict": "APPROPRIATE"}),
    "a number": json.dumps({**OPINION, "evidence": 3}),
    "the judge's own error": json.dumps({**OPINION, "verdict": "error"}),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_malformed_and_never_a_verdict(text: str) -> None:
    assert read(text) == Reading(State.MALFORMED, Verdict.ERROR)


@pytest.mark.parametrize(
    ("finish_reason", "state"),
    [("length", State.TRUNCATED), ("content_filter", State.CONTENT_FILTER), ("too_long", State.TOO_LONG)],
)
def test_an_unfinished_answer_is_an_error_even_where_it_reads_well(finish_reason: str, state: State) -> None:
    assert read(json.dumps(OPINION), finish_reason) == Reading(state, Verdict.ERROR)


def test_a_refusal_is_a_refusal_and_no_abstention() -> None:
    assert read(None, refused=True) == Reading(State.REFUSAL, Verdict.ERROR)
    assert read(None).state is State.MALFORMED


@given(st.text())
def test_reading_is_total(text: str) -> None:
    assert read(text).verdict is Verdict.ERROR


@given(*[st.sampled_from("YNU")] * 4)
def test_the_derived_verdict_is_the_prompts_rule(i: str, e: str, c: str, d: str) -> None:
    derived = Opinion(
        indication=i, effectiveness=e, contraindication=c, duplication=d, evidence="", verdict="appropriate"
    ).derived()
    if "N" in i + e or "Y" in c + d:
        assert derived is Verdict.INAPPROPRIATE
    else:
        assert derived is (Verdict.INSUFFICIENT if "U" in i + e + c + d else Verdict.APPROPRIATE)


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("Congestive heart failure", True),
        ("congestive  HEART failure.", True),
        ("heart", True),
        ("failure heart", False),
        ("ongestive heart", False),
        ("renal failure", False),
        ("", False),
        ("...", False),
        ("F Diagnoses Congestive", True),
    ],
)
def test_a_quote_is_the_charts_own_words(quote: str, stands: bool) -> None:
    assert is_quote(quote, CHART) is stands


def test_a_quote_of_more_than_twenty_words_is_no_quote() -> None:
    chart = " ".join(f"w{i}" for i in range(30))
    assert is_quote(" ".join(chart.split()[:20]), chart)
    assert not is_quote(" ".join(chart.split()[:21]), chart)


def test_an_abstention_without_a_quote_is_not_unsupported() -> None:
    unsure = {**OPINION, "indication": "U", "evidence": "", "verdict": "insufficient_information"}
    assert read(json.dumps(unsure)).evidence_ok is None
    assert read(json.dumps({**OPINION, "evidence": ""})).evidence_ok is False


def test_a_dollar_in_a_chart_stays_what_it_is() -> None:
    messages = read_protocol(UNIT).ask("costs $drug and ${chart}", "aspirin")
    assert "costs $drug and ${chart}" in messages[1]["content"]
    assert messages[1]["content"].endswith("Drug: aspirin")


@pytest.mark.parametrize(("yes", "no"), [(4, 0), (0, 4), (3, 1)])
def test_counts_over_a_list_are_answered_where_every_drug_counts_once(yes: int, no: int) -> None:
    found = read_counts(Reply("m", json.dumps({"appropriate": yes, "inappropriate": no}), "stop"), 4)
    assert (found.state, found.verdict) == (State.ANSWERED, None)


@pytest.mark.parametrize(("yes", "no"), [(3, 0), (4, 1), (5, -1), (3.5, 0.5), ("4", 0), (True, 3)])
def test_other_counts_are_malformed(yes: object, no: object) -> None:
    found = read_counts(Reply("m", json.dumps({"appropriate": yes, "inappropriate": no}), "stop"), 4)
    assert found == Reading(State.MALFORMED, Verdict.ERROR)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (UNIT, "da4c64052d6eee7e5bbf341ade5165d5706f7285607b6f639aea53472fe0a791"),
        (LIST, "e5d5dc34beb996f5d714ce794ae966e6b165dab34b661df04284bedb0f2c1000"),
    ],
)
def test_a_protocols_text_changes_only_with_its_version(name: str, digest: str) -> None:
    """Verdicts are kept under this digest: a changed word makes every stored one unused."""
    assert read_protocol(name).digest == digest
