"""Text that somebody stored, where others read it: spreadsheet, card, Bundle; the page is tried in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from serving.cds.words import escape
from serving.drafting.export import as_csv
from serving.schemas import Draft
from tests.serving.security.conftest import BODY

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u3000=1", "＝1+1", "＠x"]
MARKUP = ["<script>hit()</script>", "<img src=x onerror=hit()>", "[a](javascript:hit())", "![a](http://evil.example/x)"]
LINKS = ["https://evil.example/x", "HTTP://EVIL.EXAMPLE", "www.evil.example", "ftp://evil.example"]


def draft_of(text: str) -> Draft:
    """Return a draft that holds a text wherever a person can write one."""
    review = {"decision": "edit", "edited_drug": text, "reason_code": None, "reason_text": text}
    row = {"item_id": "i1", "rank": 1, "drug": text, "ingredients": [text], "atc": [text]}
    row |= {"review": {**review, "reviewed_at": "2026-11-21T01:00:00Z"}}
    return Draft.model_validate(
        {"draft_id": "d", "state": "ready", "version": 1, "created_at": "2026-11-21T01:00:00Z", "drugs": [row]}
    )


@given(text=st.text() | st.sampled_from(FORMULAS) | st.text("=+-@ \t\r\n\u3000＝＋－＠|'\"", min_size=1))
@example(text=FORMULAS[0])
def test_no_cell_of_an_export_is_a_formula(text):
    [_, row] = csv.reader(io.StringIO(as_csv(draft_of(text)), newline=""))
    assert text.replace("\0", "") in row[1].replace("\0", "")  # and nothing of it is lost
    for cell in row:
        assert unicodedata.normalize("NFKC", cell).lstrip()[:1] not in ("=", "+", "-", "@")
        assert cell[:1] not in ("\t", "\r", "\n")


@given(text=st.text() | st.sampled_from(MARKUP) | st.text("<>[]()!`*_~|&#\\:/.w htps", min_size=1))
def test_no_text_means_anything_in_a_cards_markdown(text):
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(f"Drugs: {escape(text)}.")
    assert set(re.findall(r"</?([a-z]+)", html)) <= {"p"}


@pytest.mark.parametrize("link", LINKS)
def test_no_address_in_a_card_becomes_a_link_by_itself(link):
    told = escape(f"see {link} and ({link})")
    assert not re.search(r"(?i)(https?|ftp)://|www\.", told)
    assert told.replace("\u2060", "").count(escape(link).replace("\u2060", "")) == 2


def test_a_bundle_has_no_narrative_and_keeps_markup_as_text(people):
    alice = people("alice")
    facts = {"diagnoses": [{"text": MARKUP[0]}], "current_drugs": MARKUP[:1], "allergies": [{"substance": MARKUP[1]}]}
    draft = alice("POST", "/v1/drafts", json={**BODY, **facts}).json()
    place, edit = f"/v1/drafts/{draft['draft_id']}", {"decision": "edit", "edited_drug": MARKUP[0]}
    review = {"item_id": "i1", "reason_text": MARKUP[1], "if_version": draft["version"], **edit}
    assert alice("POST", f"{place}/reviews", json=review).status_code == 200
    answer = alice("GET", f"{place}/fhir")
    assert '"div"' not in answer.text
    assert MARKUP[0] in names(answer.json())
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def names(bundle: dict[str, Any]) -> list[str]:
    resources = [entry["resource"] for entry in bundle["entry"]]
    assert json.dumps(resources)
    return [one["medicationCodeableConcept"]["text"] for one in resources if "medicationCodeableConcept" in one]
