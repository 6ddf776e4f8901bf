from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.cds.words import SUMMARY_CHARACTERS, Words, _read, escape, fitted, words


def test_both_languages_have_the_same_texts_with_the_same_places() -> None:
    def places(text: str) -> set[str]:
        return set(re.findall(r"{(\w+)}", text))

    english, korean = _read("en"), _read("ko")
    assert list(english) == list(korean)
    assert {name: places(text) for name, text in english.items()} == {
        name: places(text) for name, text in korean.items()
    }


def test_no_text_calls_anything_safe() -> None:
    for language in ("en", "ko"):
        text = (files("serving.cds") / "texts" / f"{language}.json").read_text("utf-8").lower()
        assert not re.search(r"\bsafe\b|안전", text)


def test_korean_texts_are_korean() -> None:
    untranslated = [name for name, text in _read("ko").items() if not re.search("[가-힣]", text)]
    assert untranslated == ["warning_one", "info_one"]  # the message alone


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en;q=0.5, ko;q=0.7", "ko"),
        ("fr, de", "en"),
        ("fr, ko;q=0.1", "ko"),
        ("ko;q=0", "en"),
        ("ko;q=x", "en"),
    ],
)
def test_the_best_language_asked_for_is_spoken(asked: str | None, language: str) -> None:
    assert words(asked, "en").language == language


@given(st.text())
def test_a_fitted_text_is_one_line_within_the_limit(text: str) -> None:
    assert len(fitted(text)) <= SUMMARY_CHARACTERS
    assert "\n" not in fitted(text)


@given(st.text())
def test_an_escaped_text_reads_as_it_was_written(text: str) -> None:
    assert re.sub(r"\\(.)", r"\1", escape(text)) == " ".join(text.split())


@given(st.text(alphabet="<>|`*_[]#-+1. a&\\"))
def test_no_mark_is_left_without_its_backslash(text: str) -> None:
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>|`*_\[\]&]", escape(text).replace("\\\\", "")) or "\\" in text


def test_long_lists_name_the_first_and_count_the_rest() -> None:
    assert Words("en").listed([f"d{n}" for n in range(25)], most=2) == "d0, d1, and 23 more"
