"""The commands as a user types them: their output, their exit status, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from etl.errors import RxdraftError
from serving.store.commands import audit, store
from tests.serving.store.conftest import Ward

RUN = CliRunner()

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("RXDRAFT_STORE", database_url)


def run(app, *arguments: str) -> Result:
    result = RUN.invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_verify_tells_the_head_and_finds_what_was_changed(ward: Ward):
    ward.record()
    head = run(audit, "head").stdout.strip()
    assert run(audit, "verify", "--head", head).stdout == f"1 events, 0 problems, head {head}\n"
    assert run(audit, "verify", "--head", "f" * 64).exit_code == 1
    with ward.store.transaction() as con:
        con.execute(text("UPDATE drafts SET version = 7"))
    found = run(audit, "verify")
    assert found.exit_code == 1
    assert found.stdout.splitlines()[0] == "draft d1 has another state or version than its last event says"


def test_migrate_makes_a_store_that_check_finds_and_without_it_check_says_so(tmp_path: Path):
    with pytest.raises(RxdraftError, match=r"is no file; name a store, or make it with `rxdraft store migrate`"):
        run(store, "check")
    assert run(store, "migrate").stdout.endswith("is at schema 0001\n")
    assert run(store, "check").stdout.endswith("answers\n")
    assert run(store, "check", "--store", str(tmp_path / "store.sqlite3")).exit_code == 0


def test_a_store_is_purged_exported_backed_up_and_restored(ward: Ward, tmp_path: Path):
    ward.review(ward.record(), reason_text="Mr Kim")
    out, copy, again = (str(tmp_path / name) for name in ("out.jsonl", "copy", "again"))
    assert run(store, "export", out, "--free-text").stdout == f"{out}: 2 rows\n"
    assert "Mr Kim" in Path(out).read_text()
    assert run(store, "export", out).exit_code == 0
    assert "Mr Kim" not in Path(out).read_text()
    assert ": 4 events, head " in run(store, "backup", copy).stdout
    assert ": 4 events, head " in run(store, "restore", copy, "--store", again).stdout
    assert "reasons                  0" in run(store, "purge", "--store", again).stdout
    settings = tmp_path / "settings.toml"
    settings.write_text(f'store = "{again}"\nkeep_reasons_days = 9\n')
    assert "reasons                  0" in run(store, "purge", "--settings", str(settings)).stdout
    purged = run(store, "purge", "--settings", str(settings), "--reasons-days", "0").stdout
    assert "reasons                  1" in purged
    assert run(audit, "verify", "--store", again).exit_code == 0
