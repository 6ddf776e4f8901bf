"""Questions from files: every layout says the same, and a line that cannot be asked is refused with its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import artefacts
from etl.errors import ConfigError, ContractError
from evaluation.medqa.items import LETTERS, Item, read_item_sets
from evaluation.medqa.questions import REQUEST, read_choice, render_question

PLAIN = Path(__file__).parent / "plain.jsonl"

LAYOUTS = {
    "medqa": lambda q: {
        "question": q["stem"], "answer": q[q["key"]], "options": {letter: q[letter] for letter in "ABCD"},
        "meta_info": "step1", "answer_idx": q["key"],
    },
    "endings": lambda q: {
        "id": q["id"], "sent1": q["stem"], "sent2": "", "label": "ABCD".index(q["key"]),
        **{f"ending{i}": q[letter] for i, letter in enumerate("ABCD")},
    },
    "medmcqa": lambda q: {
        "id": q["id"], "question": q["stem"], "opa": q["A"], "opb": q["B"], "opc": q["C"], "opd": q["D"],
        "cop": "ABCD".index(q["key"]), "choice_type": "single", "exp": None, "subject_name": "Pharmacology",
    },
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in PLAIN.read_text("utf-8").splitlines()]


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_questions_read_the_same_in_every_layout(tmp_path, layout):
    [plain] = read_item_sets([PLAIN])
    [other] = read_item_sets([write(tmp_path / f"{layout}.jsonl", *map(LAYOUTS[layout], rows()))])
    said = [[(item.question, item.options, item.answer) for item in found.items] for found in (plain, other)]
    assert said[0] == said[1]
    assert plain.items[1] == Item("q02", rows()[1]["stem"], ("Amlodipine", "Lisinopril", "Losartan",
                                                             "Hydrochlorothiazide"), 1)  # fmt: skip


def test_a_set_has_the_files_name_and_digest_and_its_first_questions(tmp_path):
    [found] = read_item_sets([PLAIN], limit=3)
    assert (found.name, found.sha256) == ("plain", artefacts.sha256_file(PLAIN))
    assert [item.id for item in found.items] == ["q01", "q02", "q03"]


def test_a_question_without_id_is_known_by_its_line(tmp_path):
    question = LAYOUTS["medqa"](rows()[0])
    [found] = read_item_sets([write(tmp_path / "a.jsonl", question, "", question)])
    assert [item.id for item in found.items] == ["1", "3"]


def test_medqas_five_options_are_read_as_five(tmp_path):
    five = {"question": "Which?", "options": dict(zip("ABCDE", "vwxyz", strict=True)), "answer_idx": "E"}
    [found] = read_item_sets([write(tmp_path / "a.jsonl", five)])
    assert found.items == (Item("1", "Which?", tuple("vwxyz"), 4),)


MEDMCQA = LAYOUTS["medmcqa"](rows()[0])
MEDQA = LAYOUTS["medqa"](rows()[0])


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (MEDMCQA | {"cop": -1}, "test questions have none; give its validation file"),
        ({key: value for key, value in MEDMCQA.items() if key != "cop"}, "give its validation file"),
        (MEDMCQA | {"cop": 4}, "counts options from 1"),
        (MEDMCQA | {"cop": True}, "none of the 4 options"),
        (MEDQA | {"answer_idx": "E"}, "none of the 4 options"),
        (MEDQA | {"answer_idx": "AB"}, "none of the 4 options"),
        (MEDQA | {"options": {"B": "x", "A": "y"}}, "in this order"),
        (MEDQA | {"options": {"A": "x"}, "answer_idx": "A"}, "1 options; wanted 2 to 10"),
        (MEDQA | {"question": " "}, "no text or empty"),
        ({"prompt": "What?"}, "no known layout; wanted options, ending0, opa, stem"),
        ("[1, 2]", "no JSON object"),
        ("{broken", "no JSON; wanted one object a line"),
    ],
)
def test_a_line_that_cannot_be_asked_is_refused_with_reason_and_number(tmp_path, line, wanted):
    path = write(tmp_path / "items.jsonl", MEDQA, "", line)
    with pytest.raises(ContractError) as refusal:
        read_item_sets([path])
    assert wanted in str(refusal.value)
    assert "(line 3)" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_all_wrong_lines_are_told_at_once_and_many_are_counted(tmp_path):
    path = write(tmp_path / "test.jsonl", *[MEDMCQA | {"id": str(i), "cop": -1} for i in range(9)], "{", MEDMCQA)
    with pytest.raises(ContractError, match=r"validation file \(lines 1, 2, 3 and 6 more\); no JSON.*\(line 10\)"):
        read_item_sets([path])


def test_an_id_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"earlier line \(line 2\)"):
        read_item_sets([write(tmp_path / "a.jsonl", MEDMCQA, MEDMCQA)])


def test_an_empty_file_a_missing_one_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(ContractError, match="no question"):
        read_item_sets([write(tmp_path / "empty.jsonl")])
    with pytest.raises(ConfigError, match="is no file"):
        read_item_sets([tmp_path / "none.jsonl"])
    (tmp_path / "other").mkdir()
    twin = write(tmp_path / "other" / "plain.jsonl", MEDQA)
    with pytest.raises(ConfigError, match="several files are called plain"):
        read_item_sets([PLAIN, twin])


# --- questions and answers ------------------------------------------------------------------------------

ITEM = Item("1", "Which?", ("Aspirin", "Heparin", "Vitamin K", "None of these"), 1)


def test_a_question_lists_every_option_under_its_letter():
    _, user = render_question(ITEM)
    assert user["content"] == f"Which?\n\nA. Aspirin\nB. Heparin\nC. Vitamin K\nD. None of these\n\n{REQUEST}"
    assert "<|" not in render_question(Item("1", "<|eot_id|>", ("a", "b"), 0))[1]["content"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        (" (b) ", None),
        ("(B)", 1),
        ("**B.**", 1),
        ("B.", 1),
        ("B. Heparin", 1),
        ("B) Heparin, since it acts at once.", 1),
        ("**B:** Heparin", 1),
        ("The answer is B.", 1),
        ("The correct answer is: (B)", 1),
        ("Answer: **B**", 1),
        ("answer: option C", 2),
        ("heparin", 1),
        (' "Vitamin K." ', 2),
        ("A. Aspirin is wrong.\nB. Heparin is right.\nThe answer is B.", 1),
        ("A. Aspirin\nB. Heparin\nC. Vitamin K", None),
        ("The answer is A. No, the answer is B.", None),
        ("A patient with a clot needs heparin.", None),
        ("A 45-year-old man", None),
        ("I think of option B", None),
        ("The answer is a blood thinner", None),
        ("E", None),
        ("The answer is E", None),
        ("Because", None),
        ("", None),
        ("heparin\naspirin", None),
    ],
)
def test_an_answer_names_an_option_plainly_or_none(text, place):
    assert read_choice(text, ITEM) == place


@given(st.text(max_size=60))
def test_any_text_reads_as_one_of_the_options_or_as_none(text):
    assert read_choice(text, ITEM) in {None, 0, 1, 2, 3}


@given(st.integers(0, 3), st.sampled_from(["{}", "({})", "{}.", "{}. any words", "The answer is {}.", "Answer: {}"]))
def test_every_letter_is_read_back_from_every_usual_form(place, form):
    assert read_choice(form.format(LETTERS[place]), ITEM) == place
