"""`rxdraft augment` over real HTTP: what it makes, what it never does, and that a kill costs nothing."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from etl.artefacts import sha256_tree
from etl.augment.growth import Plan
from etl.augment.rehearsal import rehearse
from etl.augment.run import augment
from etl.augment.settings import Settings
from etl.augment_commands import augment as command
from etl.chat_files import read_dialogues
from etl.cohort import read_cohort, read_training_prompts
from etl.errors import ConfigError, ContractError
from etl.outside.endpoint import Decoding
from etl.outside.firewall import Provenance, read_provenance
from tests.etl.augment.conftest import new_tasks
from tests.etl.outside.fake_server import FakeServer, Reply, completion, failure
from tests.etl.outside.killing import kill_after

REMOTE = "https://api.example.org/v1"


def answered(settings: Settings) -> Counter[str]:
    if not settings.ledger_path.is_file():
        return Counter()
    with sqlite3.connect(settings.ledger_path) as con:
        try:
            return Counter(row[0] for row in con.execute("SELECT state FROM answer"))
        except sqlite3.OperationalError:  # killed before its first table
            return Counter()


# --- what it makes ----------------------------------------------------------------------------------------


def test_a_corpus_holds_the_tasks_wanted_and_says_where_they_came_from(server: FakeServer, settings: Settings) -> None:
    augment(settings)
    corpus = read_cohort(settings.out)
    assert corpus["kind"] == "dialogues"
    assert sum(split["conversations"] for split in corpus["splits"].values()) == 200
    about = corpus["augment"]
    assert (about["model_returned"], about["ended"], about["provenance"]) == ("judge-1-2026", "enough", "synthetic")
    assert about["answers"] == {"answered": 50}
    assert about["tasks"] == {"written": 200, "kept": 200}
    assert about["asked"]["prompt"]["name"] == "tasks-1"
    assert about["asked"]["decoding"] == {"max_completion_tokens": 2048, "temperature": 0.7}
    rows = [row for split in ("train", "validation") for row in read_training_prompts(settings.out, split)]
    assert all([message["role"] for message in row["messages"]] == ["user", "assistant"] for row in rows)
    assert len(read_dialogues(settings.out / "pairs.jsonl")) == 200


def test_a_corpus_of_open_seeds_is_open_and_of_others_is_not(settings: Settings, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "Name a vein.", "output": "Vena cava"}\n')
    small = replace(settings, plan=Plan(wanted=4))
    augment(small)
    assert read_provenance(small.out) is Provenance.DEMO
    closed = replace(small, out=tmp_path / "closed", seeds=seeds)
    augment(closed)
    assert read_provenance(closed.out) is Provenance.CREDENTIALED


def test_tasks_of_a_cohort_stand_under_its_system_text(
    server: FakeServer, settings: Settings, tiny_cohort: Path
) -> None:
    augment(replace(settings, cohort=tiny_cohort, plan=Plan(wanted=8)))
    [first, *_] = read_training_prompts(settings.out, "train")
    [seed, *_] = read_training_prompts(tiny_cohort, "train")
    assert first["messages"][0] == seed["messages"][0]
    assert json.dumps(seed["messages"][0]["content"]) in server.questions[0]["messages"][1]["content"]


def test_the_corpus_trains(settings: Settings, random_base: Path, tmp_path: Path) -> None:
    from training.config import load_config
    from training.loop import train

    augment(replace(settings, plan=Plan(wanted=60)))
    config = load_config("smoke", ["ranks=[2]", "checkpoint_steps=[2]", "batch_size=4", "warmup_steps=0"])
    [made] = train(config, settings.out, str(random_base), tmp_path / "runs", lambda name: lambda *told: None)
    assert (made / "manifest.json").is_file()


def test_one_at_a_time_or_many_the_same_answers_give_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    one = replace(settings, out=tmp_path / "one", limits=replace(settings.limits, concurrency=1))
    augment(settings)
    augment(one)
    assert sha256_tree(settings.out) == sha256_tree(one.out)


def test_what_stands_there_complete_is_left_alone(server: FakeServer, settings: Settings) -> None:
    augment(settings)
    before, asked = sha256_tree(settings.out), len(server.headers)
    assert augment(settings).tally is None
    assert (sha256_tree(settings.out), len(server.headers)) == (before, asked)


def test_a_corpus_that_was_asked_for_otherwise_is_refused_and_the_difference_named(
    server: FakeServer, settings: Settings
) -> None:
    augment(settings)
    asked = len(server.headers)
    with pytest.raises(ContractError, match="differs in decoding, plan"):
        augment(replace(settings, decoding=Decoding(0.1, 2048), plan=Plan(wanted=201)))
    assert len(server.headers) == asked
    more = augment(replace(settings, plan=Plan(wanted=300), overwrite=True))
    assert more.corpus["augment"]["tasks"]["kept"] == 300
    assert more.tally is not None
    assert more.tally.stored >= 32  # whole rounds of the first run serve again


# --- answers and requests that are of no use --------------------------------------------------------------


def test_answers_of_no_use_are_counted_kept_and_made_up_for(server: FakeServer, settings: Settings) -> None:
    bad = [completion("no JSON"), completion("{", finish_reason="length"), completion(None, refusal="no")]

    def answer(body: dict[str, Any]) -> Reply:
        number = len(server.questions)
        return bad[number % 3] if number <= 9 else new_tasks(body)

    server.answer = answer
    corpus = augment(replace(settings, limits=replace(settings.limits, concurrency=1))).corpus
    assert corpus["augment"]["tasks"]["kept"] == 200
    assert corpus["augment"]["answers"] == {"answered": 50, "malformed": 3, "truncated": 3, "refusal": 3}
    assert answered(settings) == corpus["augment"]["answers"]


def test_a_request_that_keeps_failing_is_given_up_and_never_put_again(server: FakeServer, settings: Settings) -> None:
    unlucky = ""

    def answer(body: dict[str, Any]) -> Reply:
        nonlocal unlucky
        said = json.dumps(body["messages"])
        unlucky = unlucky or said
        return failure(500) if said == unlucky else new_tasks(body)

    server.answer = answer
    corpus = augment(settings).corpus
    assert corpus["augment"]["answers"] == {"answered": 50, "given_up": 1}
    assert server.asked[unlucky] == 3
    augment(replace(settings, out=settings.out.with_name("again"), ledger=settings.ledger_path))
    assert server.asked[unlucky] == 3


def test_a_model_that_writes_nothing_of_use_ends_in_one_line_that_counts(
    server: FakeServer, settings: Settings
) -> None:
    server.answer = lambda body: completion("CANARY")
    with pytest.raises(ConfigError, match=r"no task was kept \(malformed: 32\)") as stopped:
        augment(settings)
    assert "CANARY" not in str(stopped.value)
    assert not settings.out.exists()


def test_fewer_than_wanted_are_written_where_nothing_new_comes(server: FakeServer, settings: Settings) -> None:
    body = {"messages": []}
    server.answer = lambda _: new_tasks(body)
    about = augment(settings).corpus["augment"]
    assert (about["ended"], about["tasks"]["kept"]) == ("nothing new", 4)


def test_a_server_that_stops_answering_loses_nothing(server: FakeServer, settings: Settings) -> None:
    server.answer = lambda body: new_tasks(body) if len(server.questions) <= 20 else failure(500)
    with pytest.raises(ConfigError, match="every answer so far is kept"):
        augment(settings)
    assert answered(settings) == {"answered": 20}
    server.answer = new_tasks
    tally = augment(settings).tally
    assert tally is not None
    assert (tally.stored, tally.asked) == (20, 30)


# --- killed -----------------------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from etl.augment.growth import Plan
from etl.augment.run import augment
from etl.augment.settings import Settings
from etl.outside.ask import Limits
augment(Settings(Path(sys.argv[1]), "writer-1", sys.argv[2], plan=Plan(wanted=200), limits=Limits(concurrency=4)))
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    sig: signal.Signals, server: FakeServer, settings: Settings, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        time.sleep(0.01)
        return new_tasks(body)

    server.answer = answer
    for killed_after in (10, 40):
        kill_after(killed_after, server, sig, RUN, str(settings.out), server.url)
        assert not settings.out.exists()
    kept = answered(settings).total()
    assert 10 < kept < 50
    tally = augment(settings).tally
    assert tally is not None
    assert (tally.stored, tally.asked) == (kept, 50 - kept)
    assert sum(count - 1 for count in server.asked.values()) <= 2 * 4  # what was under way: its answer never came
    undisturbed = replace(settings, out=tmp_path / "undisturbed")
    augment(undisturbed)
    assert sha256_tree(settings.out) == sha256_tree(undisturbed.out)


# --- whose data, and what it costs ------------------------------------------------------------------------


@pytest.fixture
def closed(settings: Settings, tmp_path: Path) -> Settings:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "CANARY says hello.", "output": "CANARY"}\n')
    return replace(settings, seeds=seeds, plan=Plan(wanted=8))


def test_seeds_of_unknown_terms_do_not_leave_this_machine(closed: Settings, tiny_cohort: Path) -> None:
    for refused in (replace(closed, endpoint=REMOTE), replace(closed, endpoint=REMOTE, seeds=None, cohort=tiny_cohort)):
        with pytest.raises(ConfigError, match=r"api\.example\.org .*--affirmation"):
            augment(refused)
        assert not refused.ledger_path.exists()


def test_a_rehearsal_prints_the_affirmation_that_would_let_them_go(server: FakeServer, closed: Settings) -> None:
    said = rehearse(replace(closed, endpoint=REMOTE))
    assert "refused" in said
    assert 'data_sha256 = "' in said
    assert "CANARY" not in said
    assert "another machine, allowed" in rehearse(replace(closed, endpoint=REMOTE, open_data=True))


def test_neither_logs_nor_the_ledgers_own_columns_hold_a_seed(
    server: FakeServer, closed: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    augment(closed)
    assert "CANARY" in json.dumps(server.questions)
    assert "CANARY" not in caplog.text
    assert "CANARY" not in (closed.out / "cohort.json").read_text()


def test_a_rehearsal_sends_and_leaves_nothing_and_foretells_the_run(server: FakeServer, settings: Settings) -> None:
    said = rehearse(settings)
    assert "50 requests, 0 stored, 50 to ask" in said
    assert "nothing was sent" in said
    assert server.headers == []
    assert list(settings.out.parent.iterdir()) == []
    augment(settings)
    assert "200 of 200 tasks come from answers in the ledger\nwriter-1: 50 requests, 50 stored, 0 to ask" in rehearse(
        settings
    )


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text('["writer-1"]\ninput_usd_per_million = 10\noutput_usd_per_million = 100\n')
    return path


def test_a_run_that_may_cost_too_much_sends_nothing(server: FakeServer, settings: Settings, prices: Path) -> None:
    with pytest.raises(ConfigError, match=r"may cost \$1\d\.\d\d, above --max-cost 5; nothing was sent"):
        augment(replace(settings, prices=prices, max_usd=5.0))
    with pytest.raises(ConfigError, match="needs the price"):
        augment(replace(settings, max_usd=5.0))
    assert server.headers == []


def test_a_budget_spent_on_the_way_leaves_a_corpus_that_the_next_run_completes(
    server: FakeServer, settings: Settings, prices: Path
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        status, headers, content = new_tasks(body)
        dear = {**json.loads(content), "usage": {"prompt_tokens": 100_000, "completion_tokens": 50}}
        return status, headers, json.dumps(dear).encode()

    server.answer = answer
    priced = replace(settings, prices=prices, limits=replace(settings.limits, concurrency=1))
    first = augment(replace(priced, max_usd=12.0))
    assert first.corpus["augment"]["ended"] == "max_cost"
    assert 40 <= first.corpus["augment"]["tasks"]["kept"] < 60
    assert first.tally is not None
    assert first.tally.usd <= 12 + 1.1
    second = augment(replace(priced, max_usd=100.0))
    assert second.corpus["augment"]["tasks"]["kept"] == 200
    assert second.tally is not None
    assert second.tally.stored == first.tally.asked
    assert set(server.asked.values()) == {1}


# --- the command ------------------------------------------------------------------------------------------


def invoke(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_tells_what_became_of_every_task(server: FakeServer, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "c", "--model", "writer-1", "--endpoint", server.url, "--tasks", 6)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "tasks written: 8\n  kept: 6\n  left out: more than wanted: 2\n" in result.stdout
    assert "2 asked, 0 from the ledger" in result.stdout
    assert "is complete; nothing was asked" in invoke(*arguments).stdout


def test_every_option_has_help_and_help_loads_nothing_heavy() -> None:
    assert all(parameter.help for parameter in typer.main.get_command(_app()).params if parameter.name != "help")
    script = "import sys, etl.augment_commands; print([m for m in ('polars', 'torch', 'openai') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return app
