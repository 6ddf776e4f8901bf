"""Settings: what is read, what is refused, and that every field is explained."""

from __future__ import annotations

import ast
import inspect

import pytest

from etl.errors import ConfigError
from serving import settings as module
from serving.access import issuers
from serving.access.addresses import is_loopback
from serving.access.issuers import SANDBOX_ISSUER
from serving.settings import Settings, read_settings

OIDC = {"issuer": "https://a.org", "jwks_file": "k.json", "audience": ["rx"], "roles": {"x": "clinician"}}
EHR = {"issuer": "https://e.org", "jwks_url": "https://e.org/jwks.json"}


def test_the_defaults_are_right_on_loopback():
    settings = read_settings()
    assert not settings.dev
    assert not settings.secure
    assert is_loopback(settings.hostname)


def test_an_option_beats_set_and_set_beats_the_file(tmp_path):
    file = tmp_path / "rx.toml"
    file.write_text('session_hours = 1\nqueue_limit = 2\nlanguage = "ko"\n[[cds_clients]]\nissuer = "https://e.org"\n')
    with file.open("a") as more:
        more.write('jwks_url = "https://e.org/jwks.json"\n')
    pairs = ["queue_limit=3", "session_hours = 2", "log_format=text"]
    settings = read_settings(file, pairs, session_hours=3, store=None)
    assert (settings.session_hours, settings.queue_limit, settings.language) == (3, 3, "ko")
    assert settings.log_format == "text"
    assert settings.cds_clients[0].issuer == "https://e.org"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"public_url": "rx.example.org"}, "public_url"),
        ({"public_url": "https://rx.example.org/?a=1"}, "public_url"),
        ({"public_url": "ftp://rx.example.org"}, "public_url"),
        ({"dev": True, "public_url": "https://rx.example.org"}, "dev is for loopback"),
        ({"dev": True, "trusted_proxies": ["10.0.0.1"]}, "proxy would bring others in"),
        ({"trusted_proxies": ["*"]}, "trusted_proxies"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "everybody is no proxy"),
        ({"trusted_proxies": ["::/0"]}, "everybody is no proxy"),
        ({"cors_origins": ["*"]}, "cors_origins"),
        ({"cors_origins": ["https://ehr.example.org/"]}, "without a path"),
        ({"cors_origins": ["http://ehr.example.org"]}, "https"),
        ({"cors_origins": ["null"]}, "cors_origins"),
        ({"store": "postgresql://rx:secret@db/rx"}, "RXDRAFT_STORE"),
        ({"oidc": [{**OIDC, "algorithms": ["HS256"]}]}, "algorithms"),
        ({"oidc": [{**OIDC, "algorithms": ["none"]}]}, "algorithms"),
        ({"oidc": [{**OIDC, "roles": {"x": "root"}}]}, "roles"),
        ({"oidc": [{**OIDC, "jwks_url": "https://a.org/k"}]}, "one of jwks_file and jwks_url"),
        ({"oidc": [{**OIDC, "client_id": "rx"}]}, "authorize_url"),
        ({"oidc": [OIDC, OIDC]}, "names an issuer twice"),
        ({"cds_clients": [{"issuer": "x"}]}, "one of jwks_file and jwks_url"),
        ({"cds_clients": [{"issuer": "x", "jwks_url": "http://e.org/k"}]}, "https"),
        ({"cds_clients": [{"issuer": "x", "jwks_url": "file:///etc/passwd"}]}, "https"),
        ({"cds_clients": [{**EHR, "issuer": SANDBOX_ISSUER}]}, "private key"),
        ({"session_hours": 25}, "session_hours"),
        ({"colour": "blue"}, "colour is no setting; known are"),
    ],
)
def test_settings_that_cannot_work_are_refused_and_named(given, told):
    with pytest.raises(ConfigError, match=told):
        read_settings(None, (), **given)


def test_all_mistakes_are_told_at_once_and_no_secret_is_quoted():
    with pytest.raises(ConfigError) as caught:
        read_settings(None, ["queue_limit=0", "nonsense"], store="postgresql://rx:hunter2@db/rx")
    assert all(word in str(caught.value) for word in ("queue_limit", "--set", "store"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"[oidc\n"])
def test_a_file_that_is_no_toml_is_refused_in_a_line(tmp_path, content):
    file = tmp_path / "rx.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="TOML"):
        read_settings(file)
    with pytest.raises(ConfigError, match="is no file"):
        read_settings(tmp_path / "none.toml")


def test_only_this_machine_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.org", "127.0.0.1.nip.io", "", None)))  # noqa: S104


def test_every_setting_is_explained_below_it():
    fields = [
        (node, after)
        for source in (module, issuers)
        for part in ast.parse(inspect.getsource(source)).body
        if isinstance(part, ast.ClassDef)
        for node, after in zip(part.body, [*part.body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
    ]
    assert len(fields) > len(Settings.model_fields)
    for node, after in fields:
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        assert told, f"line {node.lineno} has no docstring"
