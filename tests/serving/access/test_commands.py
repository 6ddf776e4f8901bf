"""`rxdraft keys`: a key is printed once, works, and ends when it is revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl.errors import ConfigError
from serving.access.commands import app
from serving.access.keys import principal_of_key
from serving.access.principal import Role, Scope
from serving.access.refused import RefusedError
from serving.store.engine import open_store
from serving.store.keys import Keys


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('keys')}/rx.sqlite3"


def run(url: str, *words: str):
    result = CliRunner().invoke(app, [*words, "--store", url])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_a_key_is_all_that_stdout_holds_and_it_works(url):
    result = run(url, "add", "--name", "ward 3", "--role", "clinician", "--scope", "search", "--days", "7")
    principal = principal_of_key(Keys(open_store(url)), result.stdout.strip())
    assert (principal.roles, principal.scopes) == (frozenset({Role.CLINICIAN}), frozenset({Scope.SEARCH}))
    assert result.stdout.strip() not in result.stderr


def test_the_list_tells_everything_but_the_secret(url):
    key = run(url, "add", "--name", "a program", "--role", "evaluator", "--role", "admin").stdout.strip()
    _, key_id, secret = key.split("_")
    listed = run(url, "list").stdout
    [line] = [line for line in listed.splitlines() if line.startswith(key_id)]
    assert line.split("\t") == [key_id, "admin,evaluator", "-", "no end", "never used", "a program"]
    assert secret not in listed


def test_a_revoked_key_does_not_work_and_is_listed_as_such(url):
    key = run(url, "add", "--name", "gone", "--role", "clinician").stdout.strip()
    run(url, "revoke", key.split("_")[1])
    with pytest.raises(RefusedError, match="revoked_key"):
        principal_of_key(Keys(open_store(url)), key)
    assert "revoked" in run(url, "list").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["revoke", "000000000000"], "keys list"),
        (["add", "--name", "x", "--role", "clinician", "--scope", "audit"], "no role given holds audit"),
        (["add", "--name", "a\tb", "--role", "clinician"], "--name"),
        (["add", "--name", "", "--role", "clinician"], "--name"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(url, words, told):
    with pytest.raises(ConfigError, match=told):
        run(url, *words)


def test_a_store_that_is_not_there_yet_is_made(tmp_path: Path):
    run(f"sqlite:///{tmp_path}/new.sqlite3", "add", "--name", "first", "--role", "admin")
    assert (tmp_path / "new.sqlite3").is_file()
