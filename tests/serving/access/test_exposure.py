"""What is refused before a port is opened, and what uvicorn is told to believe."""

from __future__ import annotations

import pytest

from etl.errors import ConfigError
from serving.access.exposure import check_exposure, uvicorn_options
from serving.settings import Settings

PUBLIC = {"public_url": "https://rx.example.org"}
PROXIED = {**PUBLIC, "trusted_proxies": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("given", "host", "more"),
    [
        ({"dev": True}, "127.0.0.1", {}),
        ({"dev": True}, "::1", {}),
        ({"dev": True}, "localhost", {"keys": False}),
        ({}, "127.0.0.1", {"keys": False}),
        (PUBLIC, "127.0.0.1", {}),
        (PUBLIC, "0.0.0.0", {"tls": True}),  # noqa: S104
        (PROXIED, "10.0.0.5", {}),
    ],
)
def test_such_a_service_may_listen(given, host, more):
    check_exposure(Settings(**given), host, **more)


@pytest.mark.parametrize(
    ("given", "host", "more", "told"),
    [
        ({"dev": True}, "0.0.0.0", {}, "--dev"),  # noqa: S104
        ({"dev": True}, "::", {}, "--dev"),
        ({"dev": True}, "10.0.0.5", {"tls": True}, "--dev"),
        ({}, "0.0.0.0", {}, "public_url"),  # noqa: S104
        ({"public_url": "http://rx.example.org"}, "127.0.0.1", {}, "https"),
        ({"public_url": "http://rx.example.org"}, "0.0.0.0", {"tls": True}, "https"),  # noqa: S104
        (PUBLIC, "0.0.0.0", {}, "unencrypted"),  # noqa: S104
        (PROXIED, "0.0.0.0", {"keys": False}, "rxdraft keys add"),  # noqa: S104
        (PUBLIC, "rx.example.org", {}, "unencrypted"),
        ({"cds_clients": [{"issuer": "https://e.org", "jwks_file": "nowhere.json"}]}, "127.0.0.1", {}, "nowhere.json"),
    ],
)
def test_such_a_service_is_refused_and_told_why(given, host, more, told):
    with pytest.raises(ConfigError, match=told):
        check_exposure(Settings(**given), host, **more)


def test_all_dangers_are_told_at_once():
    with pytest.raises(ConfigError, match=r"https.*keys add"):
        check_exposure(Settings(public_url="http://rx.example.org"), "0.0.0.0", keys=False)  # noqa: S104


def test_proxies_are_believed_only_if_named(monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert uvicorn_options(Settings())["proxy_headers"] is False
    assert uvicorn_options(Settings())["forwarded_allow_ips"] == []
    assert uvicorn_options(Settings(**PROXIED))["forwarded_allow_ips"] == ["10.0.0.1"]
