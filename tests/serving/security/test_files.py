"""Files that say who is let in, and files that hold patients: whose they must be, and what is told of them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from etl.errors import ConfigError
from serving.access.exposure import check_exposure
from serving.settings import read_settings
from serving.store.engine import open_store

PASSWORD = "pa55w0rd-nobody-shall-see"  # noqa: S105


def test_settings_that_anybody_may_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("dev = true\n")
    path.chmod(0o664)
    assert read_settings(path).dev
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod o-w"):
        read_settings(path)


def test_public_keys_that_anybody_may_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": []}')
    path.chmod(0o646)
    settings = read_settings(None, [f'cds_clients=[{{issuer = "https://ehr.example.org", jwks_file = "{path}"}}]'])
    with pytest.raises(ConfigError, match="chmod o-w"):
        check_exposure(settings, "127.0.0.1")


@pytest.mark.parametrize(
    "url", [f"postgresql://rx:{PASSWORD}@db/rx", f"postgresql://db/rx?user=rx&password={PASSWORD}"]
)
def test_a_password_in_settings_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="RXDRAFT_STORE") as refused:
        read_settings(None, [], store=url)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [f'client_secret = "{PASSWORD}"', f'key = "{PASSWORD}"', f"secret = {PASSWORD}", f'log_level = "{PASSWORD}"'],
)
def test_no_error_of_settings_repeats_a_value(tmp_path: Path, line: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(line)
    with pytest.raises(ConfigError) as refused:
        read_settings(path)
    assert PASSWORD not in str(refused.value)


def test_no_name_of_a_store_holds_a_password() -> None:
    from sqlalchemy import make_url

    from serving.store.dialects import engine
    from serving.store.engine import Store, utc_now

    for url in (f"postgresql+psycopg://rx:{PASSWORD}@db/rx", f"postgresql+psycopg://db/rx?password={PASSWORD}"):
        assert PASSWORD not in Store(engine(make_url(url), create=False), utc_now).name


def test_nobody_else_on_the_machine_reads_the_store(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/below/rx.sqlite3").close()
    for path in (tmp_path / "below", *(tmp_path / "below").iterdir()):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


def test_the_unit_and_the_proxy_of_the_documentation_keep_patients_out_of_files() -> None:
    text = Path("docs/deploy.md").read_text("utf-8")
    for kept_out in ("LimitCORE=0", "UMask=0077", "proxy_max_temp_file_size 0", r"client_body_timeout \d+s", "noquery"):
        assert re.search(kept_out, text), kept_out
