"""The two commands as they are typed; a refused push leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl.errors import ConfigError
from training.export_commands import curves, export_model
from training.manifest import find_checkpoints

app = typer.Typer()
app.command()(export_model)
app.command()(curves)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_export_prints_its_folder(trained_runs: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoints(trained_runs)[-1]
    assert run("export-model", "--checkpoint", checkpoint, "--out", tmp_path / "out").strip() == str(tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_merged_model_prints_how_far_it_is(trained_runs: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoints(trained_runs)[-1]
    told = run("export-model", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--merge", "--data", tiny_cohort)
    assert "same token in front at 100.00% of" in told
    assert "validation conversations" in " ".join((tmp_path / "out" / "README.md").read_text("utf-8").split())


def test_a_refused_push_writes_nothing(trained_runs: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoints(trained_runs)[-1]
    with pytest.raises(ConfigError, match="not pushed"):
        run("export-model", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--merge", "--push", "me/drafts")
    assert not (tmp_path / "out").exists()


def test_curves_are_drawn_beside_the_runs(trained_runs: Path) -> None:
    assert run("curves", "--runs", trained_runs).strip() == str(trained_runs / "curves.png")
    (trained_runs / "curves.png").unlink()


def test_the_commands_load_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'PIL', 'mlflow', 'tensorboard'}"
    command = f"import sys, training.export_commands; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
