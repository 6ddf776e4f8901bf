"""The command: one line for a mistake, a figure with its badge for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl.errors import ConfigError
from evaluation.judge import commands as judge_commands
from evaluation.judge.run import Settings
from tests.etl.outside.fake_server import FakeServer


@pytest.fixture
def app() -> typer.Typer:
    root = typer.Typer()
    root.add_typer(judge_commands.app, name="judge")
    root.command("other")(lambda: None)
    return root


def run(app: typer.Typer, *words: object) -> str:
    ended = CliRunner().invoke(app, ["judge", *map(str, words)], catch_exceptions=True)
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.output


def options(settings: Settings) -> list[object]:
    [(model, url)] = settings.models
    told = ["--evaluation", settings.evaluation, "--data", settings.cohort, "--row", "same"]
    return [*told, "--model", model, "--endpoint", url]


def test_the_command_prints_each_rows_figure_with_its_badge_and_the_certificate(
    app: typer.Typer, server: FakeServer, settings: Settings
) -> None:
    printed = run(app, *options(settings))
    assert "same  void (100 %" in printed
    assert "UNCERTIFIED JUDGE" in printed
    assert "wrong drugs approved, chart_swap: 1.00" in printed
    assert "answers: answered" in printed
    again = run(app, *options(settings))
    assert "0 asked" in again
    assert run(app, *options(settings), "--replay").startswith("same")
    exported = run(app, "export", "--evaluation", settings.evaluation, "--out", settings.evaluation / "shared")
    assert "rows.csv" in exported


def test_a_dry_run_sends_nothing(app: typer.Typer, server: FakeServer, settings: Settings) -> None:
    assert "nothing was sent" in run(app, *options(settings), "--dry-run")
    assert server.headers == []


def test_the_reference_protocol_is_printed_with_its_badge(
    app: typer.Typer, server: FakeServer, settings: Settings
) -> None:
    assert "PAPER-PARITY: no decoys, not identified" in run(app, *options(settings), "--paper-parity")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "--evaluation is missing"),
        (["--evaluation", "e"], "--data is missing"),
        (["--evaluation", "e", "--data", "d"], "--model is missing"),
        (["--evaluation", "e", "--data", "d", "--model", "m"], "nobody knows where m is"),
        (["--evaluation", "e", "--data", "d", "--model", "m@http://a/v1", "--model", "m@http://b/v1"], "given twice"),
        (["--evaluation", "e", "--data", "d", "--model", "m@http://a/v1", "--temperature", "warm"], "--temperature"),
        (["export", "--out", "o"], "--evaluation is missing"),
    ],
)
def test_a_mistake_is_one_line(app: typer.Typer, words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as stopped:
        run(app, *words)
    assert len(str(stopped.value).splitlines()) == 1


def test_a_models_name_may_hold_an_at_sign_and_bring_its_own_url() -> None:
    found = judge_commands._models(["claude@2026", "x@y@https://there/v1"], "http://here/v1")
    assert found == (("claude@2026", "http://here/v1"), ("x@y", "https://there/v1"))


def test_help_needs_no_openai_and_every_option_has_words(app: typer.Typer) -> None:
    import subprocess
    import sys

    script = (
        "import sys, evaluation.judge.commands; "
        "assert not {'openai', 'polars', 'scipy', 'numpy'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
    group = typer.main.get_command(judge_commands.app)
    commands = [group, *group.commands.values()]  # type: ignore[attr-defined]
    assert not [p.name for c in commands for p in c.params if p.name != "help" and not getattr(p, "help", "")]
