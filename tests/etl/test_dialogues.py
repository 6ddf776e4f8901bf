"""Imported dialogues: cleaned for good, distinct, short enough, in one split each, and trained like a cohort."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import dialogues, format_commands
from etl.cohort import SPLITS, read_cohort, read_prompts
from etl.dialogues import (
    Dialogue,
    clean_text,
    dissimilar,
    distinct,
    estimate_tokens,
    import_dialogues,
    read_dialogues,
    sift,
    split_turns,
    token_counter,
)
from etl.domain import Split
from etl.errors import ConfigError, ContractError, RxdraftError, SourceDataError

PIECES = st.one_of(
    st.sampled_from(["<p>", "</b>", "<br/>", "<!--", "-->", "script", "&lt;", "&amp;", "&#8203;", "```", "[INST]"]),
    st.sampled_from(["<", ">", "|", "<|", "|>", "eot_id", "a", "7", "é", "药"]),
    st.sampled_from(" \n\t\xa0\x07\u200b\ud83d"),
)
MARKUP = st.lists(PIECES, max_size=25).map("".join)
TURNS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8)


def item_of(number: int, *turns: tuple[str, str], system: str = "") -> Dialogue:
    return Dialogue(number, system, turns)


def write(path: Path, items: list[Any], *, lines: bool = False) -> Path:
    text = "".join(json.dumps(item) + "\n" for item in items) if lines else json.dumps(items)
    path.write_text(text, encoding="utf-8")
    return path


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


# --- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [False, True])
def test_an_item_reads_the_same_from_an_array_and_from_lines(tmp_path: Path, lines: bool) -> None:
    items = [
        {"instruction": "Draft.", "input": "Age: 67", "output": "aspirin", "id": 9},
        {"instruction": "And now?", "output": "heparin", "history": [["Hello", "Hi"]], "system": "Be brief."},
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]},
    ]
    assert read_dialogues(write(tmp_path / "items", items, lines=lines)) == [
        item_of(1, ("Draft.\nAge: 67", "aspirin")),
        item_of(2, ("Hello", "Hi"), ("And now?\n", "heparin"), system="Be brief."),
        item_of(3, ("Hello", "Hi")),
    ]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("SECRET", "item 2: no object"),
        ({"instruction": "SECRET"}, "item 2: lacks output"),
        ({"input": "SECRET"}, "item 2: lacks instruction, output"),
        ({"instruction": ["SECRET"], "output": 7}, "item 2: instruction, output is no text"),
        (
            {"instruction": "", "output": "", "history": [["SECRET"]]},
            "item 2: history is no list of [question, answer]",
        ),
        ({"instruction": "", "output": "", "history": "SECRET"}, "item 2: history is no list of [question, answer]"),
        ({"messages": []}, "item 2: messages are not"),
        ({"messages": [{"role": "user", "content": "SECRET"}]}, "item 2: messages are not"),
        ({"messages": [{"role": "system", "content": "SECRET"}]}, "item 2: messages are not"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]}, "item 2: messages"),
    ],
)
def test_a_malformed_item_is_named_by_position_and_key_and_never_quoted(
    tmp_path: Path, item: object, told: str
) -> None:
    good = {"instruction": "q", "output": "a"}
    with pytest.raises(SourceDataError) as error:
        read_dialogues(write(tmp_path / "items.json", [good, item, good]))
    assert told in str(error.value)
    assert "SECRET" not in str(error.value)
    assert "\n" not in str(error.value)


def test_all_problems_are_told_at_once_each_with_its_first_positions(tmp_path: Path) -> None:
    source = tmp_path / "items.jsonl"
    source.write_text('{"output": "a"}\n' * 8 + "\n{SECRET\n[]\n", encoding="utf-8")
    with pytest.raises(
        SourceDataError, match="item 1, 2, 3, 4, 5 and 3 more: lacks instruction; item 10: no JSON; "
    ) as e:
        read_dialogues(source)
    assert "item 11: no object" in str(e.value)
    assert "SECRET" not in str(e.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"instruction": "SECRET"', "is no JSON from line 1, column 26 on"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "holds no items"),
        (b"[]", "holds no items"),
        (b'{"instruction": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "items.json").write_bytes(content)
    with pytest.raises(SourceDataError, match=told) as error:
        read_dialogues(tmp_path / "items.json")
    assert "SECRET" not in str(error.value)


# --- cleaning -----------------------------------------------------------------------------------------


@given(MARKUP)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(MARKUP)
def test_a_clean_text_is_printable_lines_without_a_special_token(text: str) -> None:
    clean = clean_text(text)
    assert all(line.isprintable() for line in clean.split("\n"))
    assert "<|" not in clean
    assert "[INST]" not in clean
    assert not re.search(r"^\s|\s$|  |\n\n\n", clean)
    clean.encode()


@pytest.mark.parametrize(
    "text",
    [
        "BP <140/90 and HR >60",
        "if a<b and b>c then",
        "K < 3.5 | Na > 150",
        "x <y and z> 3",
        "R&D at AT&T; Q&A",
        "aspirin\nheparin\n\nsenna",
        "患者，男，67岁。",
    ],
)
def test_clinical_comparisons_lines_and_other_scripts_stay(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('<a href="x">Link</a> <script>alert(1 < 2)</script>end', "Link end"),
        ("one<br>two</p><p class='x'>three", "one\ntwo\n\nthree"),
        ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
        ("a<|eot_id|>b<｜end▁of▁sentence｜>c", "a b c"),
        ("<|<|eot_id|>eot_id|>a", "a"),
        ("&lt;|eot_id|&gt;a", "a"),
        ("hep\u200barin\x00 \ufeffof\xa0today\ud83d", "heparin of today"),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
    ],
)
def test_markup_entities_marks_and_the_invisible_go(text: str, clean: str) -> None:
    assert clean_text(text) == clean


# --- repeats ------------------------------------------------------------------------------------------


def test_of_items_that_differ_in_case_and_space_only_the_first_stays() -> None:
    items = [item_of(1, ("Q", "Straße  1")), item_of(2, ("q ", "STRASSE 1")), item_of(3, ("Q", "Straße 2"))]
    assert [item.number for item in distinct(items)] == [1, 3]


def test_where_a_question_ends_and_its_answer_begins_is_part_of_an_item() -> None:
    assert len(distinct([item_of(1, ("a", "b c")), item_of(2, ("a b", "c"))])) == 2


def jaccard(a: Dialogue, b: Dialogue) -> tuple[int, int]:
    """Return |A ∩ B| and |A ∪ B| of the items' runs of five words, the slow way."""
    runs = []
    for item in (a, b):
        words = " ".join(text for turn in item.turns for text in turn).split()
        width = min(5, len(words))
        runs.append({tuple(words[i : i + width]) for i in range(len(words) - width + 1)})
    return len(runs[0] & runs[1]), len(runs[0] | runs[1])


# Copies of a text with few words changed, so that many pairs lie on both sides of the threshold.
COPIES = st.lists(
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from("abc")), max_size=4), min_size=2, max_size=12
).flatmap(lambda edits: st.tuples(st.just(edits), st.integers(6, 60)))


@given(COPIES)
def test_the_items_that_stay_are_those_a_slow_comparison_of_all_pairs_keeps(
    copies: tuple[list[list[tuple[int, str]]], int],
) -> None:
    edits, size = copies
    items = []
    for number, changes in enumerate(edits):
        words = [f"w{i}" for i in range(size)]
        for place, word in changes:
            words[place % size] = word
        items.append(item_of(number, (words[0], " ".join(words[1:]))))
    kept: list[Dialogue] = []
    for item in items:
        pairs = [jaccard(item, earlier) for earlier in kept]
        if all(100 * common < dialogues.SIMILAR_PERCENT * all_ for common, all_ in pairs):
            kept.append(item)
    assert dissimilar(items) == kept


def test_an_index_of_exactly_the_threshold_is_nearly_the_same_and_a_run_less_is_not() -> None:
    words = [f"w{i}" for i in range(24)]
    short, longer, longest = (item_of(size, ("q", " ".join(words[:size]))) for size in (20, 23, 24))
    assert jaccard(short, longer) == (17, 20)
    assert dissimilar([short, longer]) == [short]
    assert jaccard(short, longest) == (17, 21)
    assert dissimilar([short, longest]) == [short, longest]


def test_texts_without_spaces_are_compared_character_by_character() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E64)))
    items = [item_of(1, (text, "好")), item_of(2, (text.replace(text[50], "好"), "好")), item_of(3, (text[::-1], "好"))]
    assert [item.number for item in dissimilar(items)] == [1, 3]


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


def test_without_a_tokenizer_a_character_outside_ascii_counts_as_a_token() -> None:
    plain = [{"role": "user", "content": "abcdefgh"}, {"role": "assistant", "content": "药物"}]
    assert estimate_tokens(plain) == 32 + 2 * 8 + 8 // 4 + 2


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tokenizer; give the folder of the base model"):
        token_counter(tmp_path)


# --- the corpus ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(MARKUP, MARKUP), min_size=1, max_size=20))
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
