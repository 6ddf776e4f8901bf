"""`rxdraft report` as a user meets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl.errors import ConfigError, ContractError
from evaluation.report.commands import report as command


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def test_a_report_is_written_beside_its_evaluation_and_then_holds(app: typer.Typer, evaluation: Path) -> None:
    written = CliRunner().invoke(app, ["--evaluation", str(evaluation)])
    assert written.exit_code == 0
    assert "report.html" in written.stdout
    assert (evaluation / "report" / "report.html").is_file()
    checked = CliRunner().invoke(app, ["--evaluation", str(evaluation), "--check"])
    assert re.fullmatch(r"[\d,]+ figures recomputed; all files of .* hold\n", checked.stdout)


def test_a_check_without_a_report_says_how_to_write_one(app: typer.Typer, evaluation: Path) -> None:
    result = CliRunner().invoke(app, ["--evaluation", str(evaluation), "--check"])
    assert isinstance(result.exception, ContractError)
    assert "rxdraft report" in str(result.exception)


def test_a_check_takes_no_new_sources(app: typer.Typer, evaluation: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--evaluation", str(evaluation), "--check", "--reference", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
