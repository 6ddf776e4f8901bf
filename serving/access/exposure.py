"""What must hold before a port is opened, and what uvicorn may believe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etl.errors import ConfigError
from serving.access.addresses import is_loopback
from serving.access.files import anybody_may_write
from serving.settings import Settings


def check_exposure(settings: Settings, host: str, *, tls: bool = False, keys: bool = True) -> None:
    """Refuse to listen where callers would be unknown or overheard.

    Args:
        settings: of the service.
        host: to listen on.
        tls: this process itself speaks https.
        keys: the store has a key that still works.

    Raises:
        ConfigError: with everything that is wrong, and what to do.
    """
    if problems := list(_dangers(settings, host, tls, keys)):
        raise ConfigError("; ".join(problems))


def _dangers(settings: Settings, host: str, tls: bool, keys: bool) -> Iterator[str]:
    if not settings.secure and not is_loopback(settings.hostname):
        yield "public_url is http, where keys and patients could be read on the way; give an https address"
    for source in (*settings.oidc, *settings.cds_clients):
        if source.jwks_file is not None and not source.jwks_file.is_file():
            yield f"{source.jwks_file} is no file; put the public keys of {source.issuer} there"
        elif source.jwks_file is not None and anybody_may_write(source.jwks_file):
            yield f"{source.jwks_file} may be written by anybody, who could add a key of their own; chmod o-w it"
    if is_loopback(host):
        return
    if settings.dev:
        yield f"--dev answers without keys, and {host} lets others in; listen on 127.0.0.1 or leave out --dev"
        return
    if is_loopback(settings.hostname):
        yield f"{host} lets others in, and public_url is for this machine only; set public_url to what they call"
    elif not tls and not settings.trusted_proxies:
        yield f"{host} would be reached unencrypted; give --ssl-certfile and --ssl-keyfile, or name trusted_proxies"
    if not keys and not settings.oidc:
        yield "nobody could sign in; make a key with `rxdraft keys add`, or name a provider under oidc"


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """Return the options of uvicorn.Config that hang on access and operation: proxies, headers, logs, stopping."""
    return {
        "proxy_headers": bool(settings.trusted_proxies),
        # Given even if empty: left out, uvicorn would take $FORWARDED_ALLOW_IPS.
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "server_header": False,
        "ws": "none",  # there are none, and a refused one would repeat what was sent
        "access_log": False,  # it would hold whatever a client puts into a URL
        "log_config": None,  # see configure_logs
        "timeout_graceful_shutdown": int(settings.deadline_seconds) + 5,
    }
