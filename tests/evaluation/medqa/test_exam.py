"""Multiple-choice questions put to a real base and its checkpoints: asked as said, kept, compared, told in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from etl import prompts
from etl.errors import ConfigError, ContractError
from evaluation.medqa import commands, exam, report
from evaluation.medqa.exam import Continuation, Examined, Protocol, examine, find_examined
from evaluation.medqa.items import ItemSet, read_item_sets
from evaluation.medqa.questions import read_choice, render_question
from evaluation.medqa.scores import score
from serving.recommenders.engine import Engine, Generated, Likelihood
from training.manifest import find_checkpoints

PLAIN = Path(__file__).parent / "plain.jsonl"
QUICK = Protocol(tries=3, max_tokens=8)
NAMES = ["base", "rank-2-step-000002", "rank-2-step-000004", "rank-4-step-000002", "rank-4-step-000004"]


@pytest.fixture(scope="module")
def sets() -> list[ItemSet]:
    return read_item_sets([PLAIN])


@pytest.fixture(scope="module")
def examined(taught_runs: Path) -> Examined:
    return find_examined(taught_runs, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("medqa") / "answers"


@pytest.fixture(scope="module")
def answers(sets: list[ItemSet], examined: Examined, folder: Path) -> pl.DataFrame:
    return examine(sets, examined, folder, QUICK)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Engines that were loaded."""
    loaded: list[Any] = []

    class Counted(Engine):
        def __init__(self, *given: Any) -> None:
            loaded.append(given)
            super().__init__(*given)

    monkeypatch.setattr(exam, "Engine", Counted)
    return loaded


# --- who is asked ---------------------------------------------------------------------------------------


def test_every_checkpoint_and_the_base_they_stand_on_are_asked(examined):
    assert [model.name for model in examined.models] == NAMES
    assert examined.models[0].manifest is None


def test_a_base_can_be_asked_alone(random_base):
    alone = find_examined(None, str(random_base))
    assert [model.name for model in alone.models] == ["base"]


def test_one_checkpoint_is_asked_beside_its_base(taught_runs):
    one = find_examined(find_checkpoints(taught_runs)[-1], None)
    assert [model.name for model in one.models] == ["base", NAMES[-1]]


def test_nobody_to_ask_an_empty_folder_a_whole_model_and_two_bases_are_refused(taught_runs, trained_runs, tmp_path):
    with pytest.raises(ConfigError, match="nobody to ask"):
        find_examined(None, None)
    with pytest.raises(ContractError, match="holds no checkpoint"):
        find_examined(tmp_path, None)
    with pytest.raises(ContractError, match="is a whole model; give it as --base"):
        find_examined(taught_runs.parent / "full", None)
    shutil.copytree(taught_runs, tmp_path / "a")
    shutil.copytree(trained_runs, tmp_path / "b")
    with pytest.raises(ContractError, match=r"several checkpoints are rank-2-step-000002;.*2 different bases"):
        find_examined(tmp_path, None)


# --- how ------------------------------------------------------------------------------------------------


def test_everybody_answers_every_question_in_order(answers, sets):
    assert answers["model"].to_list() == [name for name in NAMES for _ in sets[0].items]
    assert answers["id"].to_list() == [item.id for item in sets[0].items] * len(NAMES)
    assert set(answers["tries"].list.len()) == {QUICK.tries}


def test_the_first_try_is_the_engines_greedy_answer_and_choices_are_read_from_the_texts(answers, sets, examined):
    engine = Engine(examined.base, examined.base_sha256)
    items = sets[0].items
    ids = [prompts.encode(engine.tokenizer, render_question(item)) for item in items]
    greedy = [answer.text for answer in engine.generate(ids, None, QUICK.max_tokens)]
    base = answers.filter(pl.col("model") == "base")
    assert [texts[0] for texts in base["texts"]] == greedy
    for item, texts, tries in zip(items, base["texts"], base["tries"], strict=True):
        assert [read_choice(text, item) for text in texts] == tries.to_list()


def test_the_likeliest_option_is_that_of_the_highest_likelihood(answers):
    for row in answers.iter_rows(named=True):
        assert len(row["likelihoods"]) == row["options"]
        assert row["likelihoods"][row["likeliest"]] == max(row["likelihoods"])
    models = answers.group_by("model", maintain_order=True).agg("likelihoods")["likelihoods"].to_list()
    assert len({str(found) for found in models}) == len(NAMES)  # every checkpoint was asked as itself


def test_options_words_are_scored_per_token(sets, examined, tmp_path):
    only_base = Examined(examined.base, examined.base_sha256, examined.models[:1])
    words = examine(sets, only_base, tmp_path, Protocol(1, max_tokens=1, continuation=Continuation.OPTIONS))
    engine = Engine(examined.base, None)
    item = sets[0].items[0]
    ids = prompts.encode(engine.tokenizer, render_question(item))
    ends = [engine.tokenizer.encode(option, add_special_tokens=False) for option in item.options]
    scored = [found.total / found.tokens for found in engine.log_likelihoods([ids], [ends], None)[0]]
    assert words["likelihoods"][0].to_list() == pytest.approx(scored, abs=1e-4)
    assert words["tries"].list.len().to_list() == [1] * len(sets[0].items)


class Scholar(Engine):
    """An engine that knows the key: says the right letter, and finds it the likeliest."""

    def generate(self, ids: list[list[int]], *given: Any, **how: Any) -> list[Generated]:
        asked = [self.tokenizer.decode(row) for row in ids]
        items = read_item_sets([PLAIN])[0].items
        right = [next(item for item in items if item.question in text).answer for text in asked]
        return [Generated("ABCD"[place], truncated=False) for place in right]

    def sample(self, ids: list[list[int]], *given: Any, samples: int, **how: Any) -> list[list[Generated]]:
        return [[answer] * samples for answer in self.generate(ids)]

    def log_likelihoods(self, ids: list[list[int]], ends: Any, *given: Any, **how: Any) -> list[list[Likelihood]]:
        right = [self.tokenizer.encode(answer.text, add_special_tokens=False) for answer in self.generate(ids)]
        return [[Likelihood(-9.0 * (end != wanted), 1) for end in own] for own, wanted in zip(ends, right, strict=True)]


def test_a_model_that_knows_every_answer_scores_in_full(sets, examined, tmp_path, monkeypatch):
    monkeypatch.setattr(exam, "Engine", Scholar)
    only_base = Examined(examined.base, examined.base_sha256, examined.models[:1])
    scores = score(examine(sets, only_base, tmp_path, QUICK))
    assert (scores.first, scores.likelihood, scores.majority, scores.parsed_first) == (1, 1, 1, 1)


# --- kept -----------------------------------------------------------------------------------------------


def test_answers_that_are_there_are_not_asked_again(answers, sets, examined, folder, engines):
    told: list[tuple[str, int, int]] = []
    again = examine(sets, examined, folder, QUICK, lambda *asked: told.append(asked))
    assert again.equals(answers)
    assert engines == []
    assert told == [(f"plain {name}", 12, 12) for name in NAMES]


def test_after_a_kill_only_what_is_missing_is_asked(answers, sets, examined, folder, tmp_path, engines):
    there = Path(shutil.copytree(folder, tmp_path / "answers"))
    (there / "plain" / f"{NAMES[2]}.parquet").unlink()
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*.parquet")}
    assert examine(sets, examined, there, QUICK).equals(answers)
    assert len(engines) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("change", ["protocol", "items"])
def test_other_questions_or_another_protocol_are_asked_anew(answers, sets, examined, folder, tmp_path, engines, change):
    there = Path(shutil.copytree(folder, tmp_path / "answers"))
    only_base = Examined(examined.base, examined.base_sha256, examined.models[:1])
    asked = sets if change == "protocol" else read_item_sets([PLAIN], limit=5)
    examine(asked, only_base, there, Protocol(tries=1, max_tokens=8) if change == "protocol" else QUICK)
    assert len(engines) == 1


# --- told -----------------------------------------------------------------------------------------------


def test_the_report_holds_every_model_both_measures_the_badge_and_the_files_digest(answers, sets, examined, tmp_path):
    result = report.report(answers, sets, examined, QUICK)
    text = report.write(result, answers, tmp_path)
    assert (tmp_path / "medqa.md").read_text("utf-8") == text
    for wanted in (*NAMES, "by acc@1", "by log-likelihood", "NOT COMPARABLE", "non-inferior", sets[0].sha256[:12]):
        assert wanted in text
    assert "right by try 3 ‡" in text
    assert "57.8 %" in text  # what guessing gives in three tries of four options
    found = json.loads((tmp_path / "medqa.json").read_text("utf-8"))["sets"]["plain"]
    assert found["sha256"] == sets[0].sha256
    assert list(found["differences"]["first"]) == NAMES[1:]
    assert found["scores"]["base"]["first"] == score(answers.filter(pl.col("model") == "base")).first


def test_the_same_answers_give_the_same_bytes(answers, sets, examined, tmp_path):
    for out in ("a", "b"):
        report.write(report.report(answers, sets, examined, QUICK), answers, tmp_path / out)
    for name in ("medqa.md", "medqa.json", "per_item.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_scores_follow_from_the_kept_table_alone(answers, sets, examined, tmp_path):
    result = report.report(answers, sets, examined, QUICK)
    report.write(result, answers, tmp_path)
    kept = pl.read_parquet(tmp_path / "per_item.parquet")
    assert report.report(kept, sets, examined, QUICK) == result


def medqa_command(*arguments: Any) -> Any:
    app = typer.Typer()
    app.command()(commands.medqa)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_asks_writes_and_prints(taught_runs, tmp_path):
    quick = ("--tries", 2, "--max-tokens", 4, "--limit", 3)
    ran = medqa_command("--items", PLAIN, "--model", find_checkpoints(taught_runs)[0], "--out", tmp_path, *quick)
    assert ran.exit_code == 0
    assert "3 questions" in ran.stdout
    assert (tmp_path / "medqa.md").read_text("utf-8") in ran.stdout
    assert pl.read_parquet(tmp_path / "per_item.parquet")["model"].unique(maintain_order=True).to_list() == NAMES[:2]


def test_the_base_alone_has_scores_and_no_difference(random_base, tmp_path):
    quick = ("--tries", 1, "--max-tokens", 4, "--limit", 2)
    ran = medqa_command("--items", PLAIN, "--base", random_base, "--out", tmp_path, *quick)
    assert ran.exit_code == 0
    assert "Less the base" not in ran.stdout


def test_two_ways_to_say_who_is_asked_are_refused(tmp_path):
    ran = medqa_command("--items", PLAIN, "--runs", tmp_path, "--model", tmp_path, "--out", tmp_path)
    assert isinstance(ran.exception, ConfigError)
