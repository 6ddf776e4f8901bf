"""The command: help that stays as written and loads nothing heavy, and `rxdraft evaluate` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import rxdraft

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = [
    *("synth", "etl", "plan", "train", "sweep", "curves", "export-model"),
    *("calibrate", "recommend", "predict", "serve"),
    *("evaluate", "baselines", "compare", "medqa", "report", "simulate", "export", "import", "augment"),
    *("keys", "keys add", "keys list", "keys revoke", "audit", "audit verify", "audit head"),
    *(f"store{' ' * bool(sub)}{sub}" for sub in ("", "migrate", "check", "purge", "export", "backup", "restore")),
    *("judge", "judge equate", "judge export", "review", "review make", "review merge", "review finalize"),
]
HEAVY = ["torch", "transformers", "peft", "duckdb", "polars", "fastapi", "uvicorn", "openai", "numpy"]
HELP = f"""
import contextlib, io, json, sys
import rxdraft
shown = {{}}
for command in json.load(sys.stdin):
    sys.argv = ["rxdraft", *command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        rxdraft.main()
    shown[command] = [printed.getvalue(), [name for name in {HEAVY} if name in sys.modules]]
json.dump(shown, sys.stdout)
"""


def golden_name(command: str) -> str:
    return f"help_{command.replace(' ', '_') or 'rxdraft'}.txt"


def every_command() -> dict[str, Any]:
    """Return the commands, each group before its own."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(rxdraft.app).commands.items():
        found[name] = command
        found |= {f"{name} {sub}": of for sub, of in getattr(command, "commands", {}).items()}
    return found


@pytest.fixture(scope="module")
def helped() -> dict[str, tuple[str, list[str]]]:
    """What each command shows with --help, and what heavy is loaded then; in one process, fresh for all of them."""
    plain = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    commands = json.dumps(["", *COMMANDS])
    done = subprocess.run(
        [sys.executable, "-c", HELP],
        input=commands,
        capture_output=True,
        encoding="utf-8",
        env=kept | plain,
        check=True,
    )
    return {command: (text, heavy) for command, (text, heavy) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_reads_as_the_golden_file_and_loads_nothing_heavy(helped, command):
    shown, heavy = helped[command]
    text = "\n".join(line.rstrip() for line in shown.splitlines()).strip() + "\n"
    path = GOLDEN / golden_name(command)
    if os.environ.get("REGENERATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
    assert heavy == []


def test_there_is_a_golden_file_for_every_command_and_no_other():
    assert list(every_command()) == COMMANDS
    assert {path.name for path in GOLDEN.glob("help_*.txt")} == set(map(golden_name, ["", *COMMANDS]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_that_ends_as_a_sentence(command):
    options = [p for p in every_command()[command].params if p.param_type_name == "option"]
    assert [p.name for p in options if not (p.help or "").rstrip().endswith((".", ")"))] == []


def test_every_command_says_what_it_does():
    assert all(command.help for command in every_command().values())


# --- evaluate -------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rxdraft", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        rxdraft.main()
    return int(ended.value.code or 0)


ROWS = ["--rows", "popularity,previous"]


def test_evaluate_prints_the_table_one_admission_and_where_it_wrote(
    taught_runs, tiny_hospital, tmp_path, monkeypatch, capsys
):
    oracle = tiny_hospital / "oracle.parquet"
    options = ["--runs", taught_runs, "--split", "test", "--oracle", oracle, "--out", tmp_path, "--show", *ROWS]
    assert run(monkeypatch, "evaluate", *options) == 0
    printed, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in printed.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        *(["2", "2"], ["2", "4"], ["4", "2"], ["4", "4"]),
        *(["popularity", ""], ["previous", ""], ["oracle", ""]),
    ]
    assert printed[: printed.index("One admission")].strip() in (tmp_path / "table.md").read_text()
    selected = json.loads((tmp_path / "evaluation.json").read_text())["selected"]
    assert f"One admission of split test, drafted by {selected}" in printed
    assert "Ordered and not drafted: " in printed
    assert printed.endswith(f"written to {tmp_path}: table.md, results.csv, evaluation.json\n")
    assert "Traceback" not in err


def test_the_reference_s_table_has_its_three_columns_and_no_baseline(taught_runs, tmp_path, monkeypatch, capsys):
    options = ["--runs", taught_runs, "--split", "test", "--out", tmp_path, "--paper-parity", *ROWS]
    assert run(monkeypatch, "evaluate", *options) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    header, _, *cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header == ["rank", "step", "output rate", "accuracy", "appropriateness"]
    assert [cell[:2] for cell in cells] == [["2", "2"], ["2", "4"], ["4", "2"], ["4", "4"]]


def test_without_show_no_admission_is_printed(taught_runs, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "evaluate", "--runs", taught_runs, "--split", "validation", "--out", tmp_path, *ROWS) == 0
    assert "One admission" not in capsys.readouterr().out


def test_the_table_is_written_beside_the_runs_unless_told_elsewhere(taught_runs, tmp_path, monkeypatch):
    import shutil

    runs = Path(shutil.copytree(taught_runs, tmp_path / "runs"))
    assert run(monkeypatch, "evaluate", "--runs", runs, "--split", "validation", *ROWS) == 0
    assert (runs / "evaluation-validation" / "table.md").is_file()
    assert (
        run(monkeypatch, "evaluate", "--runs", runs, "--split", "validation", *ROWS) == 0
    )  # its own folder is no checkpoint


@pytest.mark.parametrize(
    "options",
    [
        ["--runs", "nowhere"],
        ["--runs", "RUNS", "--data", "nowhere"],
        ["--runs", "RUNS", "--oracle", "nowhere.parquet"],
        ["--runs", "RUNS", "--rows", "popularity,magic"],
        ["--runs", "RUNS", "--strategies", "nowhere.toml"],
        ["--runs", "RUNS", "--interactions", "nowhere.csv"],
        ["--runs", "RUNS", "--base", "nowhere/at-all"],
    ],
    ids=["no runs", "no cohort", "no oracle", "no such row", "no strategies", "no interactions", "no base"],
)
def test_a_users_mistake_is_one_line_and_exit_status_2(options, taught_runs, tmp_path, monkeypatch, capsys):
    given = [str(taught_runs) if option == "RUNS" else option for option in options]
    assert run(monkeypatch, "evaluate", *given, "--split", "validation", "--out", tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("rxdraft: ")]
    assert len(said) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "table.md").exists()


def test_an_unknown_split_is_refused(taught_runs, monkeypatch, capsys):
    assert run(monkeypatch, "evaluate", "--runs", taught_runs, "--split", "tests") == 2
    assert "validation" in capsys.readouterr().err
