"""Whatever a hospital's drugs are called, its formulary compiles and every list drawn from it is one of its drugs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from etl import prompts
from etl.domain import Admission, Diagnosis
from etl.drugs import normalise_drug, normalise_drugs
from serving.decoding.decoder import Ask
from serving.decoding.trie import FormularyTrie
from serving.recommenders.lists import Recommender

MOST_TOKENS = 60

pieces = st.sampled_from(
    [
        "a",
        "aspirin",
        "insulin",
        "nph",
        "10",
        "0.9%",
        "(",
        ")",
        "[",
        "/",
        "-",
        "'",
        "&",
        "|",
        "<|eot_id|>",
        "none",
        "氧",
        "ω",
        "é",
        "💊",
    ]
)
spelt = st.lists(pieces, min_size=1, max_size=5).map(" ".join) | st.lists(pieces, min_size=1, max_size=5).map("".join)
beginnings = st.text(min_size=1, max_size=12).map(lambda name: [name[:end] for end in range(1, len(name) + 1)])
formularies = (
    st.lists(spelt | st.text(max_size=20), min_size=1, max_size=200)
    | st.lists(beginnings, min_size=1, max_size=8).map(lambda groups: [name for group in groups for name in group])
    | st.integers(1, 200).map(lambda count: [str(number) for number in range(count)])
    | st.integers(1, 120).map(lambda length: ["a" * end for end in range(1, length + 1)])
).map(normalise_drugs)


@pytest.fixture(scope="module")
def prompt(recommender: Recommender) -> list[int]:
    told = Admission((Diagnosis("I509", 10, "Heart failure, unspecified"),))
    return prompts.encode(recommender.engine.tokenizer, prompts.render_prompt(told))


@settings(max_examples=40)
@given(names=formularies)
@example(names=("none",))
@example(names=("a", "a b", "a b c", "ab", "abc"))
@example(names=("heparin (porcine)", "heparin", "heparin )", "(heparin"))
def test_every_list_of_any_formulary_is_of_its_distinct_drugs(
    recommender: Recommender, prompt: list[int], names: Sequence[str]
) -> None:
    assume(names)
    trie = FormularyTrie(recommender.engine.tokenizer, names, recommender.engine.end)
    asks = [Ask(prompt, MOST_TOKENS), Ask(prompt, MOST_TOKENS, samples=2, temperature=2.0)]
    for drawn in (one for found in recommender.engine.draw(asks, recommender.adapter, trie) for one in found):
        listed = [trie.names[item] for item in drawn.items]
        assert 1 <= len(listed) == len(set(listed))
        assert set(listed) <= set(names)
        written = recommender.engine.tokenizer(prompts.render_answer(listed), add_special_tokens=False).input_ids
        assert len(written) <= max(MOST_TOKENS, trie.longest)


@given(st.text(max_size=40) | spelt)
def test_no_drug_is_called_by_two_lines_or_a_special_token(raw: str) -> None:
    """What the decoder takes for granted of a formulary."""
    name = normalise_drug(raw)
    assert len(name.splitlines()) <= 1
    assert "<|" not in name
