"""The search: whatever is typed gives codes or nothing, and what is meant comes first."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cohort import read_cohort
from serving.search import Search, SearchNotReadyError
from serving.search.index import digest, index_of
from serving.search.korean import korean_titles
from serving.vocabulary import Vocabulary, vocabulary_of

TITLES = {
    ("I509", 10): "Heart failure, unspecified",
    ("I5020", 10): "Unspecified systolic (congestive) heart failure",
    ("4280", 9): "Congestive heart failure, unspecified",
    ("I10", 10): "Essential (primary) hypertension",
    ("I110", 10): "Hypertensive heart disease with heart failure",
    ("E119", 10): "Type 2 diabetes mellitus without complications",
    ("E8801", 9): "Fall from kerb",
    ("E8801", 10): "Alpha-1-antitrypsin deficiency",
    ("N179", 10): "Acute kidney failure, unspecified",
    ("J189", 10): "Pneumonia, unspecified organism",
    ("M3500", 10): "Sjögren syndrome, unspecified",
}


@pytest.fixture(scope="module")
def vocabulary(tiny_cohort: Path) -> Vocabulary:
    return replace(vocabulary_of(tiny_cohort, read_cohort(tiny_cohort)["settings"]), titles=TITLES)


@pytest.fixture(scope="module")
def search(vocabulary: Vocabulary) -> Search:
    search = Search()
    search.read(lambda: vocabulary)
    return search


def codes(search: Search, text: str, version: int | None = None) -> list[str]:
    return [one.icd_code for one in search.icd(text, version)]


@pytest.mark.parametrize("text", ["I50.9", "i509", " I 50.9 "])
def test_a_code_is_found_in_any_spelling_and_comes_first(search, text):
    assert codes(search, text)[0] == "I509"


def test_the_beginning_of_a_code_finds_what_begins_so_the_shortest_first(search):
    assert codes(search, "I50") == ["I509", "I5020"]
    assert codes(search, "I1") == ["I10", "I110"]


def test_a_code_means_another_thing_in_each_version(search):
    assert {one.title for one in search.icd("E880.1")} == {TITLES["E8801", 9], TITLES["E8801", 10]}
    assert [one.title for one in search.icd("E88.01", 9)] == [TITLES["E8801", 9]]


def test_words_are_found_by_their_beginnings_in_any_order_and_without_accents(search):
    assert set(codes(search, "fail hear")) == {"I509", "I5020", "4280", "I110"}
    assert codes(search, "sjogren") == ["M3500"]


@pytest.mark.parametrize(("text", "code"), [("심부전", "I509"), ("부전", "N179"), ("chf", "I509"), ("당뇨", "E119")])
def test_korean_titles_and_short_forms_find_their_category(search, text, code):
    assert code in codes(search, text)


def test_a_korean_title_stands_beside_the_dictionarys(search):
    [found] = search.icd("I10")[:1]
    assert (found.title, found.title_ko) == (TITLES["I10", 10], "본태성 고혈압")


def test_every_korean_title_is_of_one_category_and_has_korean_in_it():
    titles = korean_titles()
    assert len(titles) > 200
    assert all(any("가" <= letter <= "힣" for letter in known.title) for known in titles.values())


@given(text=st.text(max_size=64) | st.sampled_from(["a:b", "-x", "AND", '"', "a* OR b", "NEAR(", "x_y", "^", "%", "'"]))
def test_nothing_that_is_typed_breaks_the_search(search, text):
    for found in (search.icd(text, 10), search.drugs(text)):
        assert len(found) <= 20


@given(words=st.lists(st.sampled_from(sorted({w for t in TITLES.values() for w in t.split()})), min_size=1, max_size=3))
def test_what_is_found_has_every_word_that_was_typed(search, words):
    for one in search.icd(" ".join(words)):
        assert all(word.strip("(),").lower() in one.title.lower() for word in words if len(word) > 1)


def test_drugs_of_the_formulary_come_before_others(search, vocabulary):
    found = search.drugs(vocabulary.formulary[0][:4])
    assert found[0].in_formulary
    served = [one.in_formulary for one in found]
    assert served == sorted(served, reverse=True)
    assert [one.drug for one in search.drugs("abacavir")] == ["abacavir"]


def test_many_threads_may_ask_at_once(search):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: codes(search, "heart"), range(64)))
    assert found == [found[0]] * 64


def test_without_an_index_it_says_so():
    with pytest.raises(SearchNotReadyError):
        Search().icd("I50")


def test_an_index_is_made_once_and_anew_for_other_titles(vocabulary, tmp_path):
    path = index_of(vocabulary, tmp_path)
    made = path.stat().st_mtime_ns
    assert index_of(vocabulary, tmp_path) == path
    assert path.stat().st_mtime_ns == made
    other = replace(vocabulary, titles={**TITLES, ("X", 10): "new"})
    assert digest(other) != digest(vocabulary)
    assert index_of(other, tmp_path) != path


def test_a_build_that_fails_leaves_nothing_to_be_taken_for_an_index(vocabulary, tmp_path):
    broken = replace(vocabulary, titles={("I10", None): "Hypertension"})  # type: ignore[dict-item]
    with pytest.raises(sqlite3.IntegrityError):
        index_of(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_done_without(vocabulary, tmp_path):
    (tmp_path / "file").touch()
    search = Search(tmp_path / "file" / "below")
    search.read(lambda: vocabulary)
    assert codes(search, "I10")
