"""The pool: every task that is written has one fate, and the same answers grow the same pool."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.augment.growth import BARREN_REQUESTS, KEPT, Growth, Plan
from etl.augment.prompt import Task, read_prompt
from etl.augment.seeds import Seeds
from etl.outside.endpoint import Reply
from etl.outside.firewall import Provenance
from etl.token_counter import estimate_tokens

SEEDS = tuple(Task(f"Seed {word} instruction number {word} here", "", f"out {word}") for word in "abcdefghij")


def growth(plan: Plan = Plan(), seeds: tuple[Task, ...] = SEEDS, system: str = "") -> Growth:  # noqa: B008
    origin = Seeds(seeds, system, 0, Provenance.SYNTHETIC, Path("seeds"), "0")
    return Growth(origin, plan, read_prompt(), estimate_tokens)


def reply(*tasks: Any) -> Reply:
    return Reply("m", json.dumps({"tasks": [task.described() if isinstance(task, Task) else task for task in tasks]}))


GOOD = Task("Name the four chambers of the heart.", "", "Two atria and two ventricles.")

FATES = {
    "kept": GOOD,
    "not of the form asked for": "a text",
    "an empty instruction or output": Task("Name the parts of it.", "", " <p></p> "),
    "an instruction too short": Task("Go on.", "", "Yes."),
    "an instruction too long": Task("word " * 151, "", "Yes."),
    "needs more than text": Task("Describe what the attached image shows.", "", "A heart."),
    "an output that repeats the question": Task("Name the parts of it.", "", "name THE parts of it."),
    "longer than max_length": Task("Name the parts of it.", "part " * 1000, "Many."),
    "nearly a seed or an earlier task": Task("seed a instruction number a there", "", "x"),
}


@pytest.mark.parametrize("fate", FATES)
def test_a_task_has_the_fate_it_earned(fate: str) -> None:
    pool = growth()
    pool.take([reply(FATES[fate])])
    assert pool.fates == {fate: 1}
    assert len(pool.tasks) == (fate == KEPT)


@pytest.mark.parametrize("text", ["Compute the MAP from 120 over 80.", "Say when blood is drawn.", "Read the chart."])
def test_words_of_medicine_do_not_count_as_pictures(text: str) -> None:
    pool = growth()
    pool.take([reply(Task(text, "", "x y"))])
    assert pool.fates == {KEPT: 1}


def test_markup_and_special_tokens_do_not_reach_the_pool() -> None:
    pool = growth()
    pool.take([reply(Task("Name the <b>parts</b> of it.<|eot_id|>", "", "&lt;|eot_id|&gt;atria"))])
    assert pool.tasks == [Task("Name the parts of it.", "", "atria")]


def test_seeds_that_are_long_let_new_tasks_be_as_long() -> None:
    pool = growth(seeds=(Task("seed " * 300, "", "x"),))
    pool.take([reply(Task("word " * 300, "", "x"))])
    assert pool.fates == {KEPT: 1}


def test_the_second_of_two_alike_in_one_answer_goes() -> None:
    pool = growth()
    pool.take([reply(GOOD, GOOD)])
    assert pool.fates == {KEPT: 1, "nearly a seed or an earlier task": 1}


def test_no_more_is_kept_than_wanted() -> None:
    pool = growth(Plan(wanted=1))
    pool.take([reply(GOOD, Task("Say where insulin is made.", "", "In the pancreas."))])
    assert pool.fates == {KEPT: 1, "more than wanted": 1}
    assert pool.next_round() == []


answers = st.lists(
    st.one_of(
        st.just(Reply("m", "no JSON")),
        st.just(Reply("m", None, "length")),
        st.lists(st.sampled_from(list(FATES.values())), max_size=5).map(lambda tasks: reply(*tasks)),
    ),
    max_size=8,
)


@given(answers)
def test_every_answer_and_every_task_is_counted_once(replies: list[Reply]) -> None:
    pool = growth()
    pool.take(replies)
    assert pool.answers.total() == len(replies)
    written = sum(len(json.loads(r.text or "")["tasks"]) for r in replies if (r.text or "").startswith("{"))
    assert pool.fates.total() == written
    assert pool.fates[KEPT] == len(pool.tasks)


def test_requests_show_seeds_first_and_new_tasks_as_soon_as_there_are_some() -> None:
    pool = growth(Plan(wanted=100, examples=4, grown=2))
    before = pool.next_round()
    assert [request.number for request in before] == list(range(25))
    assert all(GOOD.instruction not in request.messages[1]["content"] for request in before)
    pool.take([reply(GOOD)] * 25)
    after = pool.next_round()
    assert [request.number for request in after] == list(range(25, 50))
    assert all(GOOD.instruction in request.messages[1]["content"] for request in after)
    assert all(request.messages[1]["content"].count('"output"') == 4 + 1 for request in after)  # and the form itself


def test_requests_differ_and_their_examples_depend_on_the_seed() -> None:
    shown = [[request.messages[1]["content"] for request in growth(Plan(seed=seed)).next_round()] for seed in (0, 0, 1)]
    assert shown[0] == shown[1] != shown[2]
    assert len(set(shown[0])) > 20


def test_a_model_that_brings_nothing_new_is_not_asked_for_ever() -> None:
    pool = growth(Plan(wanted=4))
    asked = 0
    while requests := pool.next_round():
        asked += len(requests)
        pool.take([reply(SEEDS[0])] * len(requests))
    assert pool.dry
    assert asked == BARREN_REQUESTS


def test_one_good_task_in_time_keeps_it_going() -> None:
    pool, asked, draw = growth(Plan(wanted=8)), 0, random.Random(0)
    while requests := pool.next_round():
        new = Task(" ".join(f"w{draw.randrange(10**6)}" for _ in range(6)), "", "x")
        pool.take([reply(new if (asked + place) % 10 == 9 else SEEDS[0]) for place in range(len(requests))])
        asked += len(requests)
    assert not pool.dry
    assert (len(pool.tasks), asked) == (8, 80)


def test_the_standing_instruction_counts_towards_the_length() -> None:
    task = Task("Name the parts of it.", "", "x " * 200)
    for system, fate in (("", KEPT), ("word " * 700, "longer than max_length")):
        pool = growth(system=system)
        pool.take([reply(task)])
        assert pool.fates == {fate: 1}
