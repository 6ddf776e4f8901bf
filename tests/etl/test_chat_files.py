"""Files of dialogues as others write them: read to the letter, or refused by position and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.chat_files import read_dialogues
from etl.errors import SourceDataError
from tests.etl.dialogue_files import item_of, write


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
