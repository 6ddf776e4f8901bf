"""docs/deploy.md is run: settings are read, commands exist, unit and site are checked, a backup is restored."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import rxdraft
from serving.settings import Settings

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
BLOCKS: list[tuple[str, str, str]] = []
"""Heading, language and text of each code block."""
for section in re.split(r"^## ", DEPLOY.read_text("utf-8"), flags=re.MULTILINE)[1:]:
    heading = section.partition("\n")[0]
    BLOCKS += [(heading, *found) for found in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]


def blocks(language: str, heading: str | None = None) -> list[str]:
    return [text for where, spoken, text in BLOCKS if spoken == language and heading in (None, where)]


def commands() -> list[list[str]]:
    """Every line that calls rxdraft, as words."""
    lines = (
        "".join(blocks("sh") + blocks("ini"))
        .replace("\\\n", " ")
        .replace("ExecStart=/opt/rxdraft/bin/", "")
        .splitlines()
    )
    return [shlex.split(line.partition(" > ")[0])[1:] for line in lines if line.startswith("rxdraft ")]


def test_every_setting_of_the_page_is_one() -> None:
    [settings] = blocks("toml")
    read = Settings.model_validate(tomllib.loads(settings))
    assert read.secure
    assert read.oidc
    assert read.cds_clients


def test_settings_that_the_text_names_are_some() -> None:
    known = {
        "session_hours",
        "drafts_per_minute",
        "calls_per_minute",
        "deadline_seconds",
        "lease_seconds",
        "queue_limit",
    }
    known |= {"drain_grace_seconds", "trusted_proxies", "store_inputs"}
    assert known <= set(Settings.model_fields)
    text = DEPLOY.read_text("utf-8")
    assert not [name for name in known if f"`{name}" not in text]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_page_has_its_options(words: list[str]) -> None:
    command: Any = typer.main.get_command(rxdraft.app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_metrics_that_the_page_watches_are_exported() -> None:
    from serving.operation import metrics

    metrics.set_engine_state("a", "open")
    exported = metrics.exposition()[0].decode()
    watched = set(re.findall(r"`(rxdraft_\w+)", DEPLOY.read_text("utf-8")))
    assert len(watched) >= 6
    assert not [name for name in watched if f"# HELP {name.removesuffix('_total')}" not in exported]


def test_a_backup_is_restored_by_the_commands_of_the_page(tmp_path: Path) -> None:
    backup, restore = blocks("sh", "Backup and restore")
    folders = {"/var/lib/rxdraft": tmp_path / "lib", "/var/backups/rxdraft": tmp_path / "backups"}
    script = f'set -euo pipefail\nrxdraft() {{ {shlex.quote(sys.executable)} -m rxdraft "$@"; }}\n'
    script += f"rxdraft keys add --name 'ward 7' --role clinician > /dev/null\n{backup}\n{restore}\nrxdraft keys list\n"
    for there, here in folders.items():
        here.mkdir()
        script = script.replace(there, str(here))
    told = {**os.environ, "RXDRAFT_STORE": str(tmp_path / "lib" / "rxdraft.sqlite3")}
    done = subprocess.run(
        ["/bin/bash", "-c", script], env=told, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ward 7" in done.stdout
    assert ", 0 problems, " in done.stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    [unit] = blocks("ini")
    unit = unit.replace("/opt/rxdraft/bin/rxdraft", "/bin/true").replace("User=rxdraft\nGroup=rxdraft", "User=root")
    path = tmp_path / "rxdraft.service"
    path.write_text(unit)
    done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "rxdraft.service" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_nginx_takes_the_site(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx here, or no openssl")
    [site] = blocks("nginx")
    made = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=rx.example.org"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem")]
    subprocess.run([openssl, *made, *files], capture_output=True, check=True)
    version = re.search(
        r"nginx/(\d+)\.(\d+)\.(\d+)", subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr
    )
    if version and tuple(map(int, version.groups())) < (1, 25, 1):  # as the page says
        site = site.replace("listen 443 ssl;\n    http2 on;", "listen 443 ssl http2;")
    for there in ("/etc/ssl/rxdraft", "/var/log/nginx"):
        site = site.replace(there, str(tmp_path))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{site}\n}}\n")
    asked = [nginx, "-t", "-p", str(tmp_path), "-e", str(tmp_path / "log"), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
