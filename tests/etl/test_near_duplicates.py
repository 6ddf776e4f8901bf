"""Repeated texts: found exactly as comparing all pairs would find them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.near_duplicates import SIMILAR_PERCENT, dissimilar, distinct, fold


@given(st.lists(st.integers(0, 9)))
def test_of_equal_keys_the_first_stays(keys: list[int]) -> None:
    assert distinct(keys) == [place for place, key in enumerate(keys) if key not in keys[:place]]


def test_texts_that_differ_in_case_width_and_space_only_fold_to_the_same() -> None:
    assert fold("Straße\u00a0 １\n") == fold(" STRASSE 1") == "strasse 1"
    assert fold("Straße 1") != fold("Straße 2")


def jaccard(*texts: str) -> tuple[int, int]:
    """Return |A ∩ B| and |A ∪ B| of two texts' runs of five words, the slow way."""
    runs = []
    for text in texts:
        words = text.split()
        width = min(5, len(words))
        runs.append({tuple(words[i : i + width]) for i in range(len(words) - width + 1)})
    return len(runs[0] & runs[1]), len(runs[0] | runs[1])


# Copies of a text with few words changed, so that many pairs lie on both sides of the threshold.
COPIES = st.lists(
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from("abc")), max_size=4), min_size=2, max_size=12
).flatmap(lambda edits: st.tuples(st.just(edits), st.integers(6, 60)))


@given(COPIES)
def test_the_texts_that_stay_are_those_a_slow_comparison_of_all_pairs_keeps(
    copies: tuple[list[list[tuple[int, str]]], int],
) -> None:
    edits, size = copies
    texts = []
    for changes in edits:
        words = [f"w{i}" for i in range(size)]
        for place, word in changes:
            words[place % size] = word
        texts.append(" ".join(words))
    kept: list[int] = []
    for place, text in enumerate(texts):
        pairs = [jaccard(text, texts[earlier]) for earlier in kept]
        if all(100 * common < SIMILAR_PERCENT * all_ for common, all_ in pairs):
            kept.append(place)
    assert dissimilar(texts) == kept


def test_an_index_of_exactly_the_threshold_is_nearly_the_same_and_a_run_less_is_not() -> None:
    words = [f"w{i}" for i in range(25)]
    short, longer, longest = (" ".join(words[:size]) for size in (21, 24, 25))
    assert jaccard(short, longer) == (17, 20)
    assert dissimilar([short, longer]) == [0]
    assert jaccard(short, longest) == (17, 21)
    assert dissimilar([short, longest]) == [0, 1]


def test_texts_without_spaces_are_compared_character_by_character() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E64)))
    assert dissimilar([text, text.replace(text[50], "好"), text[::-1]]) == [0, 2]


def test_near_repeats_are_found_across_case() -> None:
    assert dissimilar(["Give KCl now", "give kcl  NOW", ""]) == [0, 2]
