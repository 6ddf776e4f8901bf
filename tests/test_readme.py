"""The README says what is true: its tree, its commands, its request."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

import rxdraft
from serving.schemas import DraftRequest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PACKAGES = ("etl", "training", "serving", "evaluation")
COMMANDS = [line for line in README.splitlines() if line.startswith("rxdraft ")]


def test_the_tree_names_every_module_and_part_and_no_other() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    named: dict[str, set[str]] = {}
    package = ""
    for line in tree.splitlines():
        if match := re.match(r"(\w+)/ ", line):
            package = match[1]
        elif match := re.match(r"  (\w+(?:\.py|/)) ", line):
            named.setdefault(package, set()).add(match[1])
    unmentioned = {"__init__.py", "commands.py"}  # named once, below the tree's last line
    for package in PACKAGES:
        modules = {path.name for path in (ROOT / package).glob("*.py")} - unmentioned
        parts = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
        assert named[package] - {"vocabulary/"} == modules | parts


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(rxdraft.app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {argument for argument in arguments if argument.startswith("--")}
    assert given <= known
    required = {parameter.opts[0] for parameter in command.params if parameter.required}
    assert required <= given


def test_there_are_commands_to_test() -> None:
    assert {line.split()[1] for line in COMMANDS} == {"etl", "train", "evaluate", "report", "serve"}


def test_the_readmes_request_is_one_the_service_takes() -> None:
    [body] = re.findall(r"-d '(\{.*?\})'", README, re.DOTALL)
    assert DraftRequest.model_validate(json.loads(body)).diagnoses


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)$", README, re.MULTILINE))
def test_a_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
