"""Seeds: read as they are, named by what they are, and never quoted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from etl.augment.filters import filters
from etl.augment.novelty import Instructions
from etl.augment.prompt import Task
from etl.augment.seeds import read_seeds
from etl.cohort import read_prompts
from etl.errors import ConfigError, ContractError, SourceDataError
from etl.outside.firewall import Provenance
from etl.token_counter import estimate_tokens


def written(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def test_an_instruction_stays_apart_from_its_input(tmp_path: Path) -> None:
    alpaca = {"instruction": "Sort\nthem.", "input": "b, a", "output": "a, b"}
    chat = {"messages": [{"role": "user", "content": "Sort: b a"}, {"role": "assistant", "content": "<b>a b</b>"}]}
    seeds = read_seeds(written(tmp_path / "s.jsonl", alpaca, chat), None)
    assert seeds.tasks == (Task("Sort\nthem.", "b, a", "a, b"), Task("Sort: b a", "", "a b"))


def test_an_array_is_read_like_lines(tmp_path: Path) -> None:
    items = [{"instruction": f"Do {n}", "output": "x"} for n in range(3)]
    path = tmp_path / "s.json"
    path.write_text(json.dumps(items))
    assert read_seeds(path, None).tasks == read_seeds(written(tmp_path / "s.jsonl", *items), None).tasks


def test_seeds_of_several_turns_or_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    whole = {"instruction": "Do it", "output": "done"}
    seeds = read_seeds(
        written(tmp_path / "s", whole, {**whole, "output": ""}, {**whole, "history": [["a", "b"]]}), None
    )
    assert (len(seeds.tasks), seeds.left_out) == (1, 2)


def test_a_file_is_credentialed_until_its_user_says_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path / "s", {"instruction": "Do it", "output": "done"})
    assert read_seeds(path, None).provenance is Provenance.CREDENTIALED
    assert read_seeds(path, None, open_data=True).provenance is Provenance.DEMO


def test_a_cohorts_seeds_are_its_training_samples_under_its_terms(tiny_cohort: Path, open_cohort: Path) -> None:
    seeds = read_seeds(None, tiny_cohort)
    questions = {row["messages"][1]["content"] for row in read_prompts(tiny_cohort, "train")}
    others = {
        row["messages"][1]["content"] for split in ("validation", "test") for row in read_prompts(tiny_cohort, split)
    }
    shown = {task.instruction for task in seeds.tasks}
    assert shown <= questions
    assert not shown & (others - questions)
    assert "draft the drugs" in seeds.system
    assert seeds.provenance is Provenance.CREDENTIALED
    assert read_seeds(None, open_cohort).provenance is Provenance.DEMO


def test_of_a_large_cohort_so_many_are_drawn_by_the_seed(tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.augment.seeds.MOST_OF_A_COHORT", 5)
    first, same, other = (read_seeds(None, tiny_cohort, seed=seed).tasks for seed in (1, 1, 2))
    assert len(first) == 5
    assert first == same != other


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"instruction": "CANARY"}\n', "lacks output"),
        ("CANARY\n", "no JSON"),
        ('{"instruction": "CANARY", "output": ""}\n', "no seed of one question"),
        (
            '{"instruction": "a", "output": "CANARY", "system": "x"}\n{"instruction": "a", "output": "b"}\n',
            "2 different system texts",
        ),
    ],
)
def test_what_cannot_be_seeds_is_one_line_that_quotes_nothing(content: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(content)
    with pytest.raises(SourceDataError, match=error) as stopped:
        read_seeds(path, None)
    assert "CANARY" not in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_seeds_come_from_one_place(tmp_path: Path, tiny_cohort: Path) -> None:
    with pytest.raises(ConfigError, match="one of them"):
        read_seeds(tmp_path, tiny_cohort)
    with pytest.raises(ConfigError, match="--open-data"):
        read_seeds(None, tiny_cohort, open_data=True)
    with pytest.raises(SourceDataError, match="is no file"):
        read_seeds(tmp_path / "gone", None)
    with pytest.raises(ContractError, match="missing"):
        read_seeds(None, tmp_path)


def test_the_shipped_seeds_would_pass_as_new_tasks_and_prescribe_nothing() -> None:
    seeds = read_seeds(None, None)
    assert seeds.provenance is Provenance.SYNTHETIC
    assert (len(seeds.tasks) >= 20, seeds.left_out, seeds.system) == (True, 0, "")
    known, reasons = Instructions(), filters((), "", estimate_tokens, 1024)
    for task in seeds.tasks:
        assert [reason for reason, applies in reasons.items() if applies(task)] == []
        assert not known.has_like(task.instruction)
        known.add(task.instruction)
        assert not re.search(r"\d\s*(mg|µg|mcg|ml|units?)\b", f"{task.question} {task.output}", re.IGNORECASE)
