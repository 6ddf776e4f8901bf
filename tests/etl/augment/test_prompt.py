"""What is asked for, to the letter, and how whatever comes back is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.augment.ledger import GIVEN_UP
from etl.augment.prompt import Task, read_prompt, read_tasks
from etl.outside.endpoint import Decoding, Reply

TASK = {"instruction": "Define sepsis briefly.", "input": "", "output": "A dysregulated response to infection."}


def answer(*tasks: object) -> str:
    return json.dumps({"tasks": list(tasks)})


def test_the_request_reads_as_the_golden_file_says() -> None:
    examples = [Task("Say what it costs.", "$wanted and $5", "Five dollars."), Task("Name a vein: è.", "", "Vena cava")]
    messages = read_prompt().ask(examples, 3, "Be brief.")
    text = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages) + "\n"
    assert text == (Path(__file__).parent / "golden" / "request.txt").read_text("utf-8")


def test_without_a_standing_instruction_none_is_spoken_of() -> None:
    assert "standing" not in read_prompt().ask([Task("a", "", "b")], 3, "")[1]["content"]


def test_the_schema_is_strict_all_the_way_down() -> None:
    schema = read_prompt().schema
    for shape in (schema, *schema["$defs"].values()):
        assert shape["additionalProperties"] is False
        assert shape["required"] == list(shape["properties"])


def test_two_requests_that_show_the_same_are_two(seeds_request) -> None:  # type: ignore[no-untyped-def]
    first, second = seeds_request(0), seeds_request(1)
    assert first.messages == second.messages
    assert first.key("m", Decoding()) != second.key("m", Decoding())
    assert first.key("m", Decoding()) != first.key("other", Decoding())
    assert first.key("m", Decoding()) != first.key("m", Decoding(0.5))


@pytest.fixture
def seeds_request():  # type: ignore[no-untyped-def]
    from etl.augment.prompt import Request

    prompt = read_prompt()
    return lambda number: Request(prompt, prompt.ask([Task("a", "", "b")], 2, ""), number, "demo", 10)


STATES = {
    "answered": Reply("m", answer(TASK)),
    "truncated": Reply("m", answer(TASK), "length"),
    "content_filter": Reply("m", None, "content_filter"),
    "refusal": Reply("m", None, refused=True),
    "malformed": Reply("m", "Here are your tasks: 1. Define sepsis."),
    "too_long": Reply("m", None, "too_long"),
    GIVEN_UP: Reply("m", None, GIVEN_UP),
}


@pytest.mark.parametrize("state", STATES)
def test_every_answer_ends_in_a_state_and_only_a_whole_one_has_tasks(state: str) -> None:
    found, tasks = read_tasks(STATES[state])
    assert found == state
    assert tasks == ([Task(**TASK)] if state == "answered" else [])


BROKEN = [
    "text", 3, None, [], {}, {**TASK, "input": None}, {**TASK, "extra": ""}, {"instruction": "a", "output": "b"},
    {**TASK, "output": 5},
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_one_task_that_is_none_does_not_take_the_others_with_it(broken: object) -> None:
    assert read_tasks(Reply("m", answer(TASK, broken, TASK))) == ("answered", [Task(**TASK), None, Task(**TASK)])


@pytest.mark.parametrize("text", [json.dumps([TASK]), json.dumps(TASK), json.dumps({"tasks": TASK}), "", "{", "null"])
def test_another_form_is_malformed(text: str) -> None:
    assert read_tasks(Reply("m", text)) == ("malformed", [])


def test_a_fence_around_the_json_is_taken_off() -> None:
    assert read_tasks(Reply("m", f"```json\n{answer(TASK)}\n```"))[1] == [Task(**TASK)]


@given(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text()), st.booleans())
def test_no_answer_raises(text: str | None, finish: str | None, refused: bool) -> None:
    state, tasks = read_tasks(Reply("m", text, finish, refused))
    assert state
    assert not tasks
