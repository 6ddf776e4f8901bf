"""What a strategy asks and how its answers are read: settings that fit, questions that fit, votes that add up."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import prompts
from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError
from etl.prompts import Answer, Outcome
from evaluation.strategies.strategy import Strategy, encode_question, read_list, read_strategies, vote
from training.base import load_tokenizer


def strategy(**settings: Any) -> Strategy:
    return Strategy.model_validate({"name": "any", **settings})


# --- the file -------------------------------------------------------------------------------------------


def test_the_shipped_file_has_the_five_strategies_for_base_and_tuned():
    shipped = {s.name: s for s in read_strategies()}
    assert list(shipped) == ["zero-shot", "few-shot", "role", "chain-of-thought", "self-consistency"]
    assert all(s.on == ("base", "tuned") for s in shipped.values())
    assert [name for name, s in shipped.items() if s.is_served] == ["zero-shot"]
    assert (shipped["few-shot"].shots, shipped["self-consistency"].samples) == (3, 10)


def test_a_system_message_names_the_marker_it_is_read_by():
    marked = [s for s in read_strategies() if s.marker]
    assert marked
    assert all(s.marker in s.system for s in marked)


def test_every_problem_of_a_file_is_named_at_once(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[few-shot]\nshots = -1\n[vote]\nsamples = 5\n["Odd Name"]\n[thought]\ncolour = "blue"\n')
    with pytest.raises(ConfigError) as refusal:
        read_strategies(path)
    for part in ("[few-shot] shots = -1", "temperature above 0", "[Odd Name]", "colour is no setting", "mine.toml"):
        assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "no strategy"),
        ("[broken", "not TOML"),
        ("shots = 3", r"shots is no table; wanted \[shots\]"),
        ("[thought]\nreasoning_tokens = 9", "need a marker"),
        ('[nobody]\non = ["other"]', "base"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_the_reason(tmp_path, text, wanted):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=wanted):
        read_strategies(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no file"):
        read_strategies(tmp_path / "none.toml")


# --- the question ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(random_base: Path) -> Any:
    return load_tokenizer(random_base)


@pytest.fixture(scope="module")
def admissions(tiny_cohort: Path) -> list[dict[str, Any]]:
    return list(read_samples(tiny_cohort, "train").iter_rows(named=True))[:8]


def test_the_plain_strategy_asks_token_for_token_what_is_served(tokenizer, admissions):
    for sample in admissions:
        served, dropped = prompts.encode_prompt(tokenizer, prompts.render_prompt(to_admission(sample)), 300)
        asked = encode_question(strategy(), tokenizer, sample, [], 300)
        assert (asked.ids, asked.dropped_diagnoses, asked.shots) == (served, dropped, 0)


def test_the_nearest_example_stands_right_before_the_question(tokenizer, admissions):
    sample, near, far = admissions[:3]
    text = tokenizer.decode(encode_question(strategy(shots=2), tokenizer, sample, [near, far], 10_000).ids)
    places = [text.index(prompts.render_prompt(to_admission(s))[1]["content"]) for s in (far, near, sample)]
    assert places == sorted(places)
    assert prompts.render_answer(near["drugs"]) in text
    assert prompts.render_answer(sample["drugs"]) not in text


def test_examples_that_do_not_fit_are_left_out_and_counted_and_the_farthest_goes_first(tokenizer, admissions):
    sample, *examples = admissions[:4]
    longest = len(encode_question(strategy(), tokenizer, sample, examples, 10_000).ids)
    found = [
        encode_question(strategy(), tokenizer, sample, examples, room)
        for room in range(longest, 0, -40)[:-1]
        if room >= len(encode_question(strategy(), tokenizer, sample, [], 10_000).ids)
    ]
    assert {question.shots for question in found} == {0, 1, 2, 3}
    for question in found:
        again = encode_question(strategy(), tokenizer, sample, examples[: question.shots], 10_000)
        assert (question.ids, question.dropped_diagnoses) == (again.ids, 0)


def test_without_room_for_examples_the_question_loses_diagnoses_as_the_served_one_does(tokenizer, admissions):
    sample = max(admissions, key=lambda s: len(s["diagnoses"]))
    room = len(encode_question(strategy(), tokenizer, sample, [], 10_000).ids) - 1
    asked = encode_question(strategy(), tokenizer, sample, admissions[:2], room)
    assert asked.shots == 0
    assert asked.dropped_diagnoses > 0
    assert len(asked.ids) <= room


def test_another_system_message_replaces_the_served_one_and_nothing_else(tokenizer, admissions):
    sample = admissions[0]
    text = tokenizer.decode(encode_question(strategy(system="Be brief."), tokenizer, sample, [], 10_000).ids)
    served = tokenizer.decode(encode_question(strategy(), tokenizer, sample, [], 10_000).ids)
    assert text == served.replace(prompts.SYSTEM, "Be brief.")


# --- the answer -----------------------------------------------------------------------------------------

THINKING = strategy(marker="Final list:", reasoning_tokens=9)


@pytest.mark.parametrize(
    ("text", "outcome", "drugs"),
    [
        ("Sepsis needs antibiotics.\nFinal list:\nvancomycin\nheparin", Outcome.OK, ("vancomycin", "heparin")),
        ("First try.\nFinal list:\naspirin\nNo.\n**FINAL LIST:**\nheparin", Outcome.OK, ("heparin",)),
        ("Final list: heparin", Outcome.OK, ("heparin",)),
        ("heparin\naspirin", Outcome.OK, ("heparin", "aspirin")),
        ("I would think that:\nheparin", Outcome.WRONG_SCHEMA, ()),
        ("My Final list: follows.\nheparin", Outcome.OK, ("my final list: follows.", "heparin")),
        ("Thoughts.\nFinal list:\n", Outcome.EMPTY, ()),
        ("Thoughts.\nFinal list:\nnone", Outcome.OK_EMPTY_LIST, ()),
    ],
)
def test_the_list_is_what_stands_after_the_last_line_that_begins_with_the_marker(text, outcome, drugs):
    found = read_list(THINKING, text, truncated=False)
    assert (found.outcome, found.drugs) == (outcome, drugs)


def test_a_list_cut_off_by_the_limit_is_no_list():
    assert read_list(THINKING, "Thoughts.\nFinal list:\nhepa", truncated=True).outcome is Outcome.TRUNCATED
    assert read_list(THINKING, "Thoughts without end", truncated=True).outcome is Outcome.TRUNCATED


def listed(*drugs: str) -> Answer:
    return Answer(Outcome.OK if drugs else Outcome.OK_EMPTY_LIST, drugs)


BROKEN, ENDLESS = Answer(Outcome.PROSE_ONLY), Answer(Outcome.TRUNCATED)


def test_a_drug_needs_more_than_half_of_all_answers_and_malformed_ones_count_against_it():
    counted = vote([listed("a", "b"), listed("a", "b"), listed("a", "c"), BROKEN])
    assert counted.answer == listed("a")
    assert dict(zip(counted.candidates, counted.shares, strict=True)) == {"a": 0.75, "b": 0.5, "c": 0.25}


def test_answers_of_which_half_are_no_lists_come_to_the_commonest_failure_and_keep_their_votes():
    counted = vote([listed("a"), listed("a"), listed("a"), ENDLESS, BROKEN, ENDLESS])
    assert counted.answer == Answer(Outcome.TRUNCATED)
    assert (counted.candidates, counted.shares) == (("a",), (0.5,))


def test_lists_that_agree_on_nothing_come_to_an_empty_list():
    assert vote([listed("a"), listed("b"), listed()]).answer.outcome is Outcome.OK_EMPTY_LIST


ANSWERS = st.lists(
    st.one_of(
        st.lists(st.sampled_from("abcdef"), unique=True, max_size=4).map(lambda drugs: listed(*drugs)),
        st.sampled_from([BROKEN, ENDLESS]),
    ),
    min_size=1,
    max_size=9,
)


@given(ANSWERS)
def test_a_vote_keeps_the_head_of_its_candidates_and_every_share_is_a_recount(answers):
    counted = vote(answers)
    assert counted.candidates[: len(counted.answer.drugs)] == counted.answer.drugs
    assert list(counted.shares) == sorted(counted.shares, reverse=True)
    for drug, share in zip(counted.candidates, counted.shares, strict=True):
        assert share == sum(drug in answer.drugs for answer in answers) / len(answers) > 0
    formed = sum(answer.outcome.well_formed for answer in answers)
    assert counted.answer.outcome.well_formed == (2 * formed > len(answers))
    if counted.answer.outcome.well_formed:
        assert set(counted.answer.drugs) == {
            d for d, s in zip(counted.candidates, counted.shares, strict=True) if s > 0.5
        }


@given(st.sampled_from([listed("a", "b"), listed(), BROKEN]), st.integers(1, 7))
def test_answers_that_are_all_the_same_vote_for_that_answer(answer, times):
    assert vote(list(itertools.repeat(answer, times))).answer == answer
