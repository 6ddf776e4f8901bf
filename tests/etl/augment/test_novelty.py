"""ROUGE-L: the measure everybody means, and no comparison missed by being fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.augment.novelty import SIMILAR_PERCENT, Instructions, rouge_l

texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=14).map(" ".join)


@given(texts, texts)
def test_rouge_l_is_that_of_the_library_everybody_uses(a: str, b: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    assert float(rouge_l(a.split(), b.split())) == pytest.approx(scorer.score(a, b)["rougeL"].fmeasure)


@given(st.lists(texts, max_size=12), texts)
def test_a_text_is_like_another_exactly_where_their_rouge_l_reaches_the_threshold(known: list[str], text: str) -> None:
    instructions = Instructions()
    for one in known:
        instructions.add(one)
    wanted = any(100 * rouge_l(text.split(), one.split()) >= SIMILAR_PERCENT for one in known)
    assert instructions.has_like(text) == wanted


@given(st.integers(1, 400), st.data())
def test_long_texts_that_differ_little_are_found(length: int, data: st.DataObject) -> None:
    """Signatures of long texts are full; they must not tell apart what is alike."""
    text = [f"w{place}" for place in range(length)]
    gone = data.draw(st.sets(st.integers(0, length - 1), max_size=length * 3 // 10))
    instructions = Instructions()
    instructions.add(" ".join(text))
    assert instructions.has_like(" ".join("x" if place in gone else word for place, word in enumerate(text)))


def test_exactly_the_threshold_is_too_like_and_a_word_less_is_not() -> None:
    instructions = Instructions()
    instructions.add("a b c d e f g h i j")
    assert instructions.has_like("a b c d e f g x y z")
    assert not instructions.has_like("a b c d e f w x y z")


@pytest.mark.parametrize("text", ["A  B,C! d e f g h i j", "ａ b c d e f g h i j"])
def test_case_marks_and_widths_make_nothing_new(text: str) -> None:
    instructions = Instructions()
    instructions.add("a b c d e f g h i j")
    assert instructions.has_like(text)


def test_languages_without_spaces_are_compared_by_the_character() -> None:
    instructions = Instructions()
    instructions.add("请解释什么是高血压并举例说明")
    assert instructions.has_like("请解释什么是低血压并举例说明")
    assert not instructions.has_like("列出三种常见的止痛药物")


def test_thousands_of_texts_are_all_remembered() -> None:
    instructions = Instructions()
    for number in range(3000):
        instructions.add(f"a{number} b{number} c{number}")
    assert all(instructions.has_like(f"a{number} b{number} c{number}") for number in (0, 1023, 1024, 2047, 2048, 2999))
