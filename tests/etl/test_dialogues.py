"""Imported dialogues: cleaned for good, distinct, short enough, in one split each, and trained like a cohort."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import format_commands
from etl.build import build_cohort
from etl.chat_files import Dialogue
from etl.cohort import SPLITS, read_cohort, read_prompts
from etl.dialogues import import_dialogues, sift, split_turns
from etl.domain import Split
from etl.errors import ConfigError, ContractError, RxdraftError
from etl.token_counter import estimate_tokens
from tests.etl.dialogue_files import item_of, write

TEXTS = st.text(st.sampled_from("<p>/b &;lt-`\u200b\ud83d\n药"), max_size=25)
TURNS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def conversations(corpus: Path) -> list[dict[str, Any]]:
    return sorted((row for split in SPLITS for row in read_prompts(corpus, split)), key=lambda row: row["hadm_id"])


@pytest.fixture(scope="session")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty short talks of three turns, in words of their own, as Alpaca items with a history."""
    words = lambda n, turn: " ".join(f"w{n * k % 97}x{turn}" for k in range(1, 9))  # noqa: E731
    items = [
        {
            "system": "Answer briefly.",
            "history": [[f"Question {words(n, 1)}?", f"Answer {words(n, 2)}."], [f"And {words(n, 3)}?", "No."]],
            "instruction": f"What of {words(n, 4)}?",
            "output": f"<b>Plan</b>\n{words(n, 5)}",
        }
        for n in range(1, 81)
    ]
    return write(tmp_path_factory.mktemp("talks") / "talks.json", items)


# --- length -------------------------------------------------------------------------------------------


@given(TURNS, st.integers(0, 5), st.integers(1, 40))
def test_parts_are_the_item_cut_between_turns_each_as_long_as_fits(
    sizes: list[tuple[int, int]], system: int, limit: int
) -> None:
    item = item_of(1, *(("q" * q, "a" * a) for q, a in sizes), system="s" * system)
    length = lambda part: sum(len(message["content"]) for message in part.messages)  # noqa: E731
    parts = split_turns(item, lambda part: length(part) <= limit)
    if any(system + q + a > limit for q, a in sizes):
        assert parts == []
        return
    assert tuple(turn for part in parts for turn in part.turns) == item.turns
    assert all(length(part) <= limit and part.system == item.system for part in parts)
    for part, following in pairwise(parts):
        assert length(part) + sum(map(len, following.turns[0])) > limit


# --- repeats ------------------------------------------------------------------------------------------


def kept(*items: Dialogue) -> list[int]:
    return [item.number for item in sift(list(items), lambda part: True)[0]]


def test_of_items_that_differ_in_case_and_space_only_the_first_stays() -> None:
    first, same, other = ("Q", "Straße  1"), ("q ", "STRASSE 1"), ("Q", "Straße 2")
    assert kept(item_of(1, first), item_of(2, same), item_of(3, other)) == [1, 3]


def test_where_a_question_ends_and_its_answer_begins_is_part_of_an_item() -> None:
    _, fates = sift([item_of(1, ("a", "b c")), item_of(2, ("a b", "c"))], lambda part: True)
    assert fates["left out: the same as an earlier item"] == 0


def test_an_item_nearly_like_an_earlier_one_is_left_out_whatever_its_system_text() -> None:
    words = " ".join(f"w{i}" for i in range(60))
    assert kept(item_of(1, ("q", words), system="s"), item_of(2, ("q", words + " x")), item_of(3, ("q", "a"))) == [1, 3]


# --- the corpus ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
def test_every_item_read_is_kept_or_left_out_for_one_counted_reason(texts: list[tuple[str, str]]) -> None:
    items = [item_of(number, turn) for number, turn in enumerate(texts, 1)]
    items.append(item_of(len(items) + 1, ("always", "kept")))
    kept, fates = sift(items, lambda part: estimate_tokens(part.messages) <= 56)
    assert fates["read"] == len(items)
    assert sum(fates.values()) == 2 * len(items)
    assert fates["kept"] == len({part.number for part in kept})


def test_a_corpus_that_would_be_empty_is_refused_with_the_fates() -> None:
    with pytest.raises(ConfigError, match=r"no item is left \(read: 1; left out: an empty question or answer: 1; "):
        sift([item_of(1, ("<p>", "a"))], lambda part: True)


def test_exported_chat_comes_back_word_for_word(tiny_cohort: Path, tmp_path: Path) -> None:
    rows = list(read_prompts(tiny_cohort, "train"))
    import_dialogues(write(tmp_path / "chat.jsonl", rows, lines=True), tmp_path / "corpus")
    assert [row["messages"] for row in conversations(tmp_path / "corpus")] == [row["messages"] for row in rows]


def test_all_parts_of_an_item_are_in_one_split_and_others_do_not_move_it(talks: Path, tmp_path: Path) -> None:
    whole = import_dialogues(talks, tmp_path / "whole", max_length=120)
    assert sum(counts["conversations"] for counts in whole["splits"].values()) > whole["items"]["kept"] == 80
    placed = {split: {row["subject_id"] for row in read_prompts(tmp_path / "whole", split)} for split in SPLITS}
    assert sum(map(len, placed.values())) == 80
    assert all(placed.values()), "each split should have an item, or this test says little"
    some = json.loads(talks.read_text("utf-8"))[::2]
    import_dialogues(write(tmp_path / "some.json", some), tmp_path / "half", max_length=120)
    for split in SPLITS:
        numbers = {row["subject_id"] for row in read_prompts(tmp_path / "half", split)}
        assert numbers == {(n + 1) // 2 for n in placed[split] if n % 2}


def test_a_second_import_gives_the_same_bytes(talks: Path, tmp_path: Path) -> None:
    made = import_dialogues(talks, tmp_path / "one")
    import_dialogues(talks, tmp_path / "two")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert read_cohort(tmp_path / "one") == made


def test_a_whole_corpus_is_left_and_another_is_replaced_only_when_asked(talks: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    made = import_dialogues(talks, out)
    began = (out / "cohort.json").stat().st_mtime_ns
    assert import_dialogues(talks, out) == made
    assert (out / "cohort.json").stat().st_mtime_ns == began
    with pytest.raises(ContractError, match="differs in max_length, seed; choose another --out, or replace"):
        import_dialogues(talks, out, seed=1, max_length=200)
    import_dialogues(talks, out, seed=1, max_length=200, overwrite=True)
    assert read_cohort(out)["seed"] == 1


def test_a_cohort_is_never_taken_for_a_corpus(talks: Path, tiny_cohort: Path) -> None:
    with pytest.raises(ContractError, match="differs in inputs, kind"):
        import_dialogues(talks, tiny_cohort)


def test_a_corpus_is_never_taken_for_a_cohort(talks: Path, tiny_hospital: Path, tmp_path: Path) -> None:
    import_dialogues(talks, tmp_path / "corpus")
    with pytest.raises(ContractError, match=r"differs in .*inputs"):
        build_cohort(tiny_hospital, tmp_path / "corpus")


def test_the_empty_tables_have_the_columns_of_a_cohorts(talks: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    import_dialogues(talks, tmp_path / "corpus")
    for table in ("formulary.parquet", "icd_titles.parquet"):
        empty = pl.read_parquet(tmp_path / "corpus" / table)
        assert empty.is_empty()
        assert empty.schema == pl.read_parquet(tiny_cohort / table).schema


def test_nothing_an_item_says_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    source = write(tmp_path / "items.json", [{"instruction": "SECRET", "output": "SECRET SECRET"}] * 2)
    import_dialogues(source, tmp_path / "corpus")
    with pytest.raises(RxdraftError) as error:
        import_dialogues(source, tmp_path / "other", max_length=40)
    assert "SECRET" not in caplog.text + str(error.value)


def test_the_commands_print_every_fate_and_every_split(
    talks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    format_commands.import_(talks, tmp_path / "corpus", max_length=120)
    corpus = read_cohort(tmp_path / "corpus")
    told = [line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert {name.strip() for name, _ in told} == {*corpus["items"], *SPLITS}
    format_commands.export(tmp_path / "corpus", tmp_path / "chat", "chat", [Split.TRAIN])
    conversations = corpus["splits"]["train"]["conversations"]
    assert capsys.readouterr().out.split() == ["train", str(conversations), "conversations"]


# --- training -----------------------------------------------------------------------------------------


def test_a_corpus_counted_with_the_bases_tokenizer_fits_its_training_exactly(
    talks: Path, random_base: Path, tmp_path: Path
) -> None:
    from training.base import load_tokenizer
    from training.data import encode_split

    limit = 150
    import_dialogues(talks, tmp_path / "corpus", tokenizer=random_base, max_length=limit)
    rows = conversations(tmp_path / "corpus")
    encoded = encode_split(rows, load_tokenizer(random_base), limit)
    assert encoded.shortened == 0
    assert len(encoded.rows) == len(rows) > 80
    assert max(len(row.input_ids) for row in encoded.rows) > limit * 3 / 4


def test_a_corpus_of_longer_dialogues_than_training_takes_is_refused(
    talks: Path, random_base: Path, tmp_path: Path
) -> None:
    from training.config import load_config
    from training.loop import train

    import_dialogues(talks, tmp_path / "corpus", tokenizer=random_base, max_length=400)
    config = load_config("smoke", ["max_length=100"])
    with pytest.raises(ConfigError, match="samples that are dialogues longer than max_length 100 "):
        train(config, tmp_path / "corpus", str(random_base), tmp_path / "runs", lambda name: lambda *told: None)
    assert not (tmp_path / "runs").exists()


def test_an_imported_corpus_trains_to_a_checkpoint(talks: Path, random_base: Path, tmp_path: Path) -> None:
    from training.config import load_config
    from training.loop import train
    from training.manifest import read_manifest

    import_dialogues(talks, tmp_path / "corpus", tokenizer=random_base, max_length=400)
    config = load_config("smoke", ["ranks=[2]", "checkpoint_steps=[2]", "batch_size=4", "warmup_steps=0"])
    [checkpoint] = train(
        config, tmp_path / "corpus", str(random_base), tmp_path / "runs", lambda name: lambda done, total, loss: None
    )
    losses = read_manifest(checkpoint).losses
    assert losses["train"] is not None
    assert losses["validation"] is not None
