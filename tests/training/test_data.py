"""What a run sees: whole answers, prompts cut by our own rule, every row once an epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cohort import read_prompts
from etl.errors import ConfigError
from training.base import end_of_turn, load_tokenizer
from training.data import IGNORED, Encoded, collate, encode_split, epoch_batches

LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=120)


def rows_of(lengths: list[int]) -> list[Encoded]:
    return [Encoded(list(range(length)), 1) for length in lengths]


@given(LENGTHS, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_every_row_comes_exactly_once_an_epoch(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(rows_of(lengths), batch_size, seed, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_an_epochs_order_is_a_function_of_seed_and_epoch_alone() -> None:
    rows = rows_of([2 + i % 50 for i in range(300)])
    assert epoch_batches(rows, 8, 1, 2) == epoch_batches(rows, 8, 1, 2)
    assert epoch_batches(rows, 8, 1, 2) != epoch_batches(rows, 8, 1, 3)
    assert epoch_batches(rows, 8, 1, 2) != epoch_batches(rows, 8, 2, 2)


def test_batches_of_like_length_need_less_padding_than_any_order_would() -> None:
    rows = rows_of([2 + (37 * i) % 200 for i in range(640)])

    def padded(batches: list[list[int]]) -> int:
        return sum(len(batch) * max(len(rows[i].input_ids) for i in batch) for batch in batches)

    as_given = [list(range(i, i + 8)) for i in range(0, 640, 8)]
    assert padded(epoch_batches(rows, 8, 0, 0)) < 0.8 * padded(as_given)


@given(LENGTHS)
def test_labels_are_the_response_and_nothing_else(lengths: list[int]) -> None:
    rows = [Encoded(list(range(1, length + 1)), length // 2) for length in lengths]
    input_ids, labels = collate(rows, pad_id=0)
    for row, ids, label in zip(rows, input_ids.tolist(), labels.tolist(), strict=True):
        size = len(row.input_ids)
        assert ids == row.input_ids + [0] * (len(ids) - size)
        assert label[: row.prompt_tokens] == [IGNORED] * row.prompt_tokens
        assert label[row.prompt_tokens : size] == row.input_ids[row.prompt_tokens :]
        assert label[size:] == [IGNORED] * (len(ids) - size)


def test_an_encoded_sample_has_one_bos_and_learns_its_end_of_turn(tiny_cohort: Path, random_base: Path) -> None:
    tokenizer = load_tokenizer(random_base)
    rows = encode_split(read_prompts(tiny_cohort, "train"), tokenizer, 2048).rows
    for row, conversation in zip(rows, read_prompts(tiny_cohort, "train"), strict=True):
        assert row.input_ids.count(tokenizer.bos_token_id) == 1
        assert row.input_ids[-1] == end_of_turn(tokenizer)
        answer = tokenizer.decode(row.input_ids[row.prompt_tokens : -1])
        assert answer == conversation["messages"][-1]["content"]


@given(st.integers(110, 400))
def test_no_sample_exceeds_max_length_and_no_answer_loses_a_token(
    tiny_cohort: Path, random_base: Path, max_length: int
) -> None:
    tokenizer = load_tokenizer(random_base)
    whole = encode_split(read_prompts(tiny_cohort, "validation"), tokenizer, 4096)
    longest_answer = max(row.response_tokens for row in whole.rows)
    try:
        cut = encode_split(read_prompts(tiny_cohort, "validation"), tokenizer, max_length)
    except ConfigError as error:
        assert "longer than" in str(error) or longest_answer >= max_length  # noqa: PT017
        return
    assert whole.shortened == 0
    assert cut.shortened == sum(len(row.input_ids) > max_length for row in whole.rows)
    for short, row in zip(cut.rows, whole.rows, strict=True):
        assert len(short.input_ids) <= max_length
        assert short.input_ids[short.prompt_tokens :] == row.input_ids[row.prompt_tokens :]


def test_an_answer_that_fills_max_length_is_refused_with_the_count(tiny_cohort: Path, random_base: Path) -> None:
    tokenizer = load_tokenizer(random_base)
    rows = encode_split(read_prompts(tiny_cohort, "train"), tokenizer, 2048).rows
    longest = max(row.response_tokens for row in rows)
    too_long = sum(row.response_tokens == longest for row in rows)
    only = [
        c for c, row in zip(read_prompts(tiny_cohort, "train"), rows, strict=True) if row.response_tokens == longest
    ]
    with pytest.raises(ConfigError, match=rf"^{too_long} samples whose answer alone fills max_length {longest}$"):
        encode_split(only, tokenizer, longest)


@pytest.mark.parametrize("roles", [["user"], ["system", "user"], ["system", "user", "assistant", "user"]])
def test_a_dialogue_longer_than_max_length_is_refused_in_one_line_with_the_count(
    random_base: Path, roles: list[str]
) -> None:
    tokenizer = load_tokenizer(random_base)
    long = [{"role": role, "content": "SECRET " * 40} for role in roles]
    row = {"messages": [*long, {"role": "assistant", "content": "aspirin"}]}
    assert not encode_split([row], tokenizer, 2048, dialogues=True).shortened
    with pytest.raises(ConfigError, match=r"^2 samples that are dialogues longer than max_length 100 ") as error:
        encode_split([row, row], tokenizer, 100, dialogues=True)
    assert "SECRET" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_template_renders_as_llama_3_1_does(random_base: Path) -> None:
    """The official 3.1 template's text for a system and a user message, without tools."""
    golden = json.loads((Path(__file__).parent / "golden" / "llama3_chat.json").read_text("utf-8"))
    tokenizer = load_tokenizer(random_base)
    for case in golden:
        rendered = tokenizer.apply_chat_template(
            case["messages"], tokenize=False, add_generation_prompt=case["prompt"], date_string="26 Jul 2024"
        )
        assert rendered == case["text"]
