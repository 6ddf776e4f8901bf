"""The page's words: the same in both languages, all of them used, none of them a promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import serving.page
from serving.page.catalogue import LANGUAGES, catalogue, for_scripts

HERE = Path(serving.page.__file__).parent
SCRIPTS = {path.name: path.read_text("utf-8") for path in (HERE / "static").glob("*.js")}
TEMPLATES = {path.name: path.read_text("utf-8") for path in (HERE / "templates").glob("*.jinja")}
PLACE = re.compile(r"\{(\w+)\}")


def test_both_languages_have_the_same_keys() -> None:
    assert list(catalogue("ko")) == list(catalogue("en"))


def test_both_languages_name_the_same_values() -> None:
    for key, text in catalogue("en").items():
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(catalogue("ko")[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_calls_anything_safe(language: str) -> None:
    for key, text in catalogue(language).items():
        assert not re.search(r"\bsafe|안전", text, re.IGNORECASE), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty(language: str) -> None:
    assert all(text.strip() == text and text for text in catalogue(language).values())


def test_korean_is_korean_but_for_names() -> None:
    names = {
        "frame.name",
        "frame.en",
        "form.egfr",
        "js.input_egfr",
        "js.input_bmi",
        "js.saved",
        "js.changed_row",
        "js.lab",
    }
    latin = {key for key, text in catalogue("ko").items() if not re.search(r"[가-힣]", text)} - names
    assert {key for key in latin if re.search(r"[A-Za-z]{2}", PLACE.sub("", catalogue("ko")[key]))} == set()


def test_scripts_ask_only_for_words_that_exist() -> None:
    asked = {key for text in SCRIPTS.values() for key in re.findall(r'say\(\s*"(\w[\w-]*)"', text)}
    assert asked <= for_scripts("en").keys()


def test_templates_ask_only_for_words_that_exist() -> None:
    asked = {key for text in TEMPLATES.values() for key in re.findall(r"""\bt\(["']([\w.-]+)["']\s*[,)]""", text)}
    assert asked <= catalogue("en").keys()


def test_every_word_is_used() -> None:
    """By its whole key, or by the beginning of a key whose end comes from the service."""
    text = "\n".join([*SCRIPTS.values(), *TEMPLATES.values(), (HERE / "cards.py").read_text("utf-8")])
    begun = set(re.findall(r"""["'`]([\w.]+[._])(?:["']\s*[~,]|\$?\{)""", text))
    quoted = set(re.findall(r"""["'`]([\w.-]+)["'`]""", text))
    unused = {
        key
        for key in catalogue("en")
        if not {key, key.removeprefix("js.")} & quoted
        and not any(key.startswith((start, f"js.{start}")) for start in begun)
    }
    assert unused == set()


def test_scripts_hold_no_text_of_their_own() -> None:
    """A string of several words, or a word of Hangul, in code would be text that nobody translates."""
    for name, script in SCRIPTS.items():
        code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", script, flags=re.DOTALL)
        for string in re.findall(r'"([^"\n]*)"', code):
            is_selector = re.search(r"[.#\[\]:,]|^(dt|dd|h1|li|p|ul|form|select|input|details|button) ?", string)
            assert is_selector or " " not in string.strip(), (name, string)
        assert not re.search(r"[가-힣]", code), name
