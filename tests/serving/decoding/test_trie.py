"""The formulary as a trie: every walk is a list of distinct formulary drugs, and every such list is a walk."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import prompts
from etl.errors import ConfigError
from serving.decoding.trie import FormularyTrie, Lists
from training.base import end_of_turn, load_tokenizer

NAMES = (
    "aspirin",
    "aspirin (chewable)",
    "aspirin (chewable) 81 mg",
    "dextrose 50%",
    "heparin",
    "heparin (porcine)",
    "insulin human regular [humulin r]",
    "sodium chloride 0.9%",
    "sodium chloride 0.9% flush",
    "vitamin d3",
    "ω-3",
)
"""Names that begin others, and that end as tokenizers merge with a line break."""


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> Any:
    return load_tokenizer(random_base)


@pytest.fixture(scope="module")
def trie(tokenizer: Any) -> FormularyTrie:
    return FormularyTrie(tokenizer, NAMES, end_of_turn(tokenizer))


def walk(trie: FormularyTrie, draw: random.Random, forbidden: set[int], items: int, tokens: int) -> Any:
    """Walk at random; return the drugs and the tokens."""
    lists = Lists(trie, 1)
    lists.add(forbidden, items, tokens)
    written: list[int] = []
    while True:
        rows, _, edges = lists.allowed(np.arange(len(lists)))
        assert len(edges) > 0
        assert set(rows.tolist()) == {0}
        walked, done = lists.push(0, int(draw.choice(edges.tolist())))
        written += walked
        if done:
            return lists.items[0], written


@given(
    seed=st.integers(0, 10_000),
    forbidden=st.sets(st.integers(0, len(NAMES) - 1), max_size=len(NAMES) - 1),
    most_items=st.integers(1, 20),
    most_tokens=st.integers(1, 300),
)
def test_every_walk_is_a_list_of_distinct_drugs_that_may_be_named(
    trie: FormularyTrie, tokenizer: Any, seed: int, forbidden: set[int], most_items: int, most_tokens: int
) -> None:
    items, tokens = walk(trie, random.Random(seed), forbidden, most_items, most_tokens)
    assert 1 <= len(items) == len(set(items)) <= most_items
    assert not forbidden & set(items)
    assert tokenizer.decode(tokens).split("\n") == [NAMES[item] for item in items]
    assert len(tokens) <= max(most_tokens, trie.longest)


@given(st.permutations(range(len(NAMES))), st.integers(1, len(NAMES)))
def test_every_list_of_distinct_drugs_is_a_walk_over_the_tokens_that_training_saw(
    trie: FormularyTrie, tokenizer: Any, order: list[int], kept: int
) -> None:
    wanted = order[:kept]
    question: list[prompts.Message] = [{"role": "user", "content": "Which?"}]
    answer: prompts.Message = {"role": "assistant", "content": prompts.render_answer([NAMES[i] for i in wanted])}
    prompt = prompts.encode(tokenizer, question)
    trained = prompts.encode(tokenizer, [*question, answer], answered=True)[len(prompt) :]
    lists, place, done = Lists(trie, 1), 0, False
    lists.add((), len(NAMES), 10_000)
    while not done:
        edges = {token: edge for _, token, edge in zip(*map(list, lists.allowed(np.arange(len(lists)))), strict=True)}
        walked, done = lists.push(0, edges[trained[place]])
        assert trained[place : place + len(walked)] == walked
        place += len(walked)
    assert trained[place:] == [trie.end]
    assert lists.items[0] == wanted


def test_rows_walk_as_they_would_alone_while_others_come_and_go(trie: FormularyTrie) -> None:
    alone = [walk(trie, random.Random(seed), set(), 5, 200)[0] for seed in range(12)]
    lists, owners, draws = Lists(trie, 4), list[int](), {seed: random.Random(seed) for seed in range(12)}
    waiting, found = list(range(12)), dict[int, list[int]]()
    while waiting or owners:
        while waiting and len(owners) < 4:
            lists.add((), 5, 200)
            owners.append(waiting.pop(0))
        rows, _, edges = lists.allowed(np.arange(len(lists)))
        chosen = [draws[owner].choice(edges[rows == row].tolist()) for row, owner in enumerate(owners)]
        done = [row for row, edge in enumerate(chosen) if lists.push(row, int(edge))[1]]
        for row in reversed(done):
            found[owners[row]] = list(lists.items[row])
            lists.remove(row)
            owners[row] = owners[-1]
            owners.pop()
    assert [found[seed] for seed in range(12)] == alone


def test_a_formulary_whose_every_drug_is_forbidden_is_refused(trie: FormularyTrie) -> None:
    with pytest.raises(ConfigError, match="every drug of the formulary is forbidden"):
        Lists(trie, 1).add(range(len(NAMES)), 5, 100)


def test_two_names_of_the_same_tokens_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="the tokens of another"):
        FormularyTrie(tokenizer, ["aspirin", "aspirin"], end_of_turn(tokenizer))


def test_ten_thousand_names_make_one_trie_in_which_each_is_a_leaf_twice(tokenizer: Any) -> None:
    names = [f"{name} {i} mg" for i in range(1000) for name in NAMES][:10_000]
    trie = FormularyTrie(tokenizer, names, end_of_turn(tokenizer))
    assert sorted(trie.item[trie.item >= 0].tolist()) == sorted(list(range(10_000)) * 2)
    assert (trie.ways[:, 0] == 10_000).all()
