"""Slots: what a row's next token is like does not hang on who shares its slot, its pass, or its prompt's beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.decoding import attention
from serving.decoding.slots import Slots
from training.base import load_model

ROUNDING = 1e-5
Tokens = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def model(random_base: Path) -> Any:
    return load_model(random_base, torch.float32, "sdpa").eval()


def plain(model: Any, tokens: list[int]) -> torch.Tensor:
    """Return the logits behind the last token, all read at once."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1].float()


def feed(model: Any, slots: Slots, said: list[list[int]], chunks: dict[int, list[int]]) -> None:
    """Feed chunks, and see that each row's logits are those of its own tokens alone."""
    logits = slots.feed(chunks)
    for found, (row, chunk) in zip(logits, chunks.items(), strict=True):
        said[row] += chunk
        assert (found - plain(model, said[row])).abs().max() < ROUNDING
        assert slots.length(row) == len(said[row])


@settings(max_examples=30)
@given(st.data())
def test_a_rows_logits_are_those_of_its_own_tokens_whoever_comes_parts_and_leaves(
    model: Any, data: st.DataObject
) -> None:
    slots, said = Slots(model, 6), list[list[int]]()
    for _ in range(data.draw(st.integers(1, 8))):
        deeds = ["open", *(["fork", "remove"] if said else [])]
        match data.draw(st.sampled_from(deeds)):
            case "open" if len(said) < 6:
                slots.open(len(said))
                said.append([])
            case "fork" if len(said) < 6:
                row = data.draw(st.integers(0, len(said) - 1))
                slots.fork(row, len(said))
                said.append(list(said[row]))
            case "remove":
                row = data.draw(st.integers(0, len(said) - 1))
                slots.remove(row, len(said) - 1)
                said[row] = said[-1]
                said.pop()
        if said:
            rows = data.draw(st.sets(st.integers(0, len(said) - 1), min_size=1))
            feed(model, slots, said, {row: data.draw(Tokens) for row in sorted(rows)})


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.lists(st.integers(0, 9), min_size=2, max_size=40))
def test_a_prompt_that_begins_like_the_kept_one_reads_on_from_there(
    model: Any, kept: list[int], other: list[int]
) -> None:
    slots, said = Slots(model, 2), [list[int](), list[int]()]
    slots.open(0)
    feed(model, slots, said, {0: kept})
    slots.keep(0, kept)
    slots.open(1)
    same = slots.begin_like_kept(1, other)
    assert same < len(other)
    assert kept[:same] == other[:same]
    assert same == min(len(kept), len(other) - 1) or kept[same] != other[same]
    said[1] = other[:same]
    feed(model, slots, said, {1: other[same:], 0: [5]})


def test_what_is_kept_outlives_its_row_and_rows_grow_over_many_columns(model: Any) -> None:
    slots, said = Slots(model, 2), [list[int]()]
    prompt = [i % 100 for i in range(300)]
    slots.open(0)
    feed(model, slots, said, {0: prompt})
    slots.keep(0, prompt)
    slots.remove(0, 0)
    slots.open(0)
    assert slots.begin_like_kept(0, [*prompt, 7]) == 300
    said[0] = list(prompt)
    for _ in range(5):
        feed(model, slots, said, {0: [7] * 60})


def test_queries_of_one_slot_are_counted_up_in_the_order_they_come() -> None:
    assert attention._count_up(np.array([3, 1, 3, 3, 1, 7])).tolist() == [0, 0, 1, 2, 1, 0]
