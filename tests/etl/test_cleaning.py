"""Cleaned texts: plain lines for good, and nothing lost that a clinician means."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cleaning import clean

PIECES = st.one_of(
    st.sampled_from(["<p>", "</b>", "<br/>", "<!--", "-->", "script", "&lt;", "&amp;", "&#8203;", "```", "[INST]"]),
    st.sampled_from(["<", ">", "|", "<|", "|>", "eot_id", "a", "7", "é", "药"]),
    st.sampled_from(" \n\t\xa0\x07\u200b\ud83d"),
)
MARKUP = st.lists(PIECES, max_size=25).map("".join)


@given(MARKUP)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(MARKUP)
def test_a_clean_text_is_printable_lines_without_a_special_token(text: str) -> None:
    cleaned = clean(text)
    assert all(line.isprintable() for line in cleaned.split("\n"))
    assert "<|" not in cleaned
    assert "[INST]" not in cleaned
    assert not re.search(r"^\s|\s$|  |\n\n\n", cleaned)
    cleaned.encode()


@pytest.mark.parametrize(
    "text",
    [
        "BP <140/90 and HR >60",
        "if a<b and b>c then",
        "K < 3.5 | Na > 150",
        "x <y and z> 3",
        "R&D at AT&T; Q&A",
        "aspirin\nheparin\n\nsenna",
        "患者，男，67岁。",
    ],
)
def test_clinical_comparisons_lines_and_other_scripts_stay(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('<a href="x">Link</a> <script>alert(1 < 2)</script>end', "Link end"),
        ("one<br>two</p><p class='x'>three", "one\ntwo\n\nthree"),
        ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
        ("a<|eot_id|>b<｜end▁of▁sentence｜>c", "a b c"),
        ("<|<|eot_id|>eot_id|>a", "a"),
        ("&lt;|eot_id|&gt;a", "a"),
        ("hep\u200barin\x00 \ufeffof\xa0today\ud83d", "heparin of today"),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
    ],
)
def test_markup_entities_marks_and_the_invisible_go(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
