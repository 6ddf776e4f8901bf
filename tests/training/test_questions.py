"""What a label head learns from: the question as it is served, and its drugs as places in the formulary."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from etl import prompts
from etl.cohort import read_samples, read_training_prompts, to_admission
from etl.errors import ConfigError
from training.base import load_tokenizer
from training.data import IGNORED, EncodedSplit
from training.questions import Question, collate_questions, encode_questions, rates, read_formulary, with_dropout


def encoded(cohort: Path, base: Path, max_length: int = 2048, split: str = "train") -> EncodedSplit[Question]:
    conversations = read_training_prompts(cohort, split)
    return encode_questions(conversations, load_tokenizer(base), max_length, read_formulary(cohort))


def test_a_row_is_the_question_as_it_is_served_and_the_drugs_of_the_stay(tiny_cohort: Path, random_base: Path) -> None:
    tokenizer, formulary = load_tokenizer(random_base), read_formulary(tiny_cohort)
    samples = read_samples(tiny_cohort, "train").to_dicts()
    for row, sample in zip(encoded(tiny_cohort, random_base).rows, samples, strict=True):
        messages = prompts.render_prompt(to_admission(sample))
        assert (row.input_ids, 0) == prompts.encode_prompt(tokenizer, messages, 2048)
        assert row.drugs is not None
        assert {formulary[place] for place in row.drugs} == set(sample["drugs"])
        assert row.targets == len(formulary)


def test_labels_stand_in_the_order_of_the_formularys_file(tiny_cohort: Path) -> None:
    written = pl.read_parquet(tiny_cohort / "formulary.parquet")
    assert read_formulary(tiny_cohort) == written["drug"].to_list()


def test_the_rates_are_the_formularys_counts(tiny_cohort: Path, random_base: Path) -> None:
    rows = encoded(tiny_cohort, random_base).rows
    counts = pl.read_parquet(tiny_cohort / "formulary.parquet")["admissions"].to_list()
    assert (rates(rows) * len(rows)).round().tolist() == counts


def test_a_long_question_loses_diagnoses_and_is_counted(tiny_cohort: Path, random_base: Path) -> None:
    whole = encoded(tiny_cohort, random_base)
    lengths = sorted(len(row.input_ids) for row in whole.rows)
    room = lengths[-1] - 1
    cut = encoded(tiny_cohort, random_base, room)
    assert whole.shortened == 0
    assert cut.shortened == sum(length > room for length in lengths) > 0
    assert max(len(row.input_ids) for row in cut.rows) <= room
    assert [row.drugs for row in cut.rows] == [row.drugs for row in whole.rows]


def test_a_drug_that_training_never_saw_is_no_label(tiny_cohort: Path, random_base: Path) -> None:
    [conversation] = [next(read_training_prompts(tiny_cohort, "train"))]
    conversation["messages"][-1]["content"] = "heparin\nnever seen\naspirin"
    [row] = encode_questions([conversation], load_tokenizer(random_base), 2048, ["aspirin", "insulin", "heparin"]).rows
    assert row.drugs == (0, 2)


def test_an_empty_list_teaches_that_no_drug_is_given(tiny_cohort: Path, random_base: Path) -> None:
    conversation = next(read_training_prompts(tiny_cohort, "train"))
    conversation["messages"][-1]["content"] = prompts.render_answer([])
    [row] = encode_questions([conversation], load_tokenizer(random_base), 2048, ["aspirin", "heparin"]).rows
    assert (row.drugs, row.targets) == ((), 2)
    assert collate_questions([row], 0)[1].tolist() == [[0, 0]]


def test_a_corpus_without_formulary_is_refused(tmp_path: Path) -> None:
    pl.DataFrame(schema={"drug": pl.String}).write_parquet(tmp_path / "formulary.parquet")
    with pytest.raises(ConfigError, match="has no formulary, which objective labels learns to choose from"):
        read_formulary(tmp_path)


def test_rows_are_padded_on_the_right_and_a_stand_in_teaches_nothing() -> None:
    rows = [Question([7, 8, 9], (0, 2), 3, dropout_seed=4), Question([5], (), 3)]
    rows.append(rows[0].stand_in())
    input_ids, targets, where = collate_questions(rows, pad_id=1)
    assert input_ids.tolist() == [[7, 8, 9], [5, 1, 1], [7, 8, 1]]
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [IGNORED] * 3]
    assert where["lengths"].tolist() == [3, 1, 2]
    assert [row.targets for row in rows] == [3, 3, 0]


def test_dropout_follows_from_seed_step_and_place_alone() -> None:
    rows = [Question([place], (), 2) for place in range(4)]
    first = [row.dropout_seed for row in with_dropout(rows, seed=1, step=2)]
    assert first == [row.dropout_seed for row in with_dropout(rows, seed=1, step=2)]
    others = [with_dropout(rows, seed=seed, step=step) for seed, step in ((1, 3), (2, 2), (12, 2))]
    every = [*first, *(row.dropout_seed for batch in others for row in batch)]
    assert len(set(every)) == len(every)
    assert [row.input_ids for row in with_dropout(rows, 1, 2)] == [row.input_ids for row in rows]
    torch.testing.assert_close(rates(rows), torch.zeros(2))
