"""What a deployment decides: one frozen Settings, read from TOML, overridden key by key, checked as a whole.

Secrets are no settings: they come from the environment (`RXDRAFT_SECRET`, `RXDRAFT_STORE`,
`RXDRAFT_OIDC_CLIENT_SECRET`), so that a file of settings can be shown to anybody.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from etl.errors import ConfigError
from serving.access.addresses import encrypted, is_loopback
from serving.access.files import anybody_may_write
from serving.access.issuers import SANDBOX_ISSUER, CdsClient, OidcProvider, Part


class Settings(Part):
    """What `rxdraft serve` needs to know beyond its model; every field has a default that is right on loopback."""

    dev: bool = False
    """Answer without keys, as the principal "dev"; only on loopback, only to this machine."""
    public_url: str = "http://127.0.0.1:8000"
    """The address people and EHRs call, without a slash at the end; audiences, links, cookies, origins hang on it."""
    store: str | None = None
    """URL of the store, without a password; None: $RXDRAFT_STORE, or a file below the user's data folder."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and -Proto are believed; nobody else's are."""
    cors_origins: tuple[str, ...] = ()
    """Origins of browser-based EHRs, exactly as their browsers send them."""
    language: Literal["en", "ko"] = "en"
    """Of pages and cards where the caller's own is unknown."""

    oidc: tuple[OidcProvider, ...] = ()
    """Identity providers."""
    cds_clients: tuple[CdsClient, ...] = ()
    """EHRs for CDS Hooks; none: /cds-services refuses everybody, but for dev."""
    session_hours: float = Field(12, gt=0, le=24)
    """After signing in; then one signs in again."""

    drafting: bool = True
    """Off, no draft is made or queued; drafts that are there, reviews, screening and search go on."""
    drafts_per_minute: int = Field(30, ge=1)
    """Of one principal, over all processes."""
    calls_per_minute: int = Field(600, ge=1)
    """Of one principal, in each process; an unknown caller may fail a tenth as often."""
    sign_ins_per_minute: int = Field(10, ge=1)
    """Failed sign-ins from one address, over all processes."""
    deadline_seconds: float = Field(60, gt=0, le=600)
    """For a draft and its explanation, from when they are asked for."""
    queue_limit: int = Field(64, ge=1)
    """Drafts that may wait in the store; one more gets 503 busy."""
    lease_seconds: float = Field(60, gt=0)
    """After which a queued draft that a killed process had begun is taken up by another."""
    drain_grace_seconds: float = Field(5, ge=0)
    """Between SIGTERM and the closing of the port: /readyz says 503 meanwhile, so that a balancer looks elsewhere."""

    store_inputs: bool = True
    """Keep the facts that a draft was made from; else only their SHA-256 stays once it is done."""
    keep_drafts_days: int | None = Field(None, ge=1)
    """Age at which a server, or `rxdraft store purge`, empties drafts and deletes cards of hooks; None: never."""
    keep_reasons_days: int | None = Field(None, ge=1)
    """The same for free-text reasons and comments."""
    cds_draft_hours: float = Field(24, gt=0)
    """How old a stored draft may be for patient-view to show it."""
    cds_drafts_shared: bool = True
    """Every clinician may open drafts that a hook queued; else nobody may."""

    interactions: Path | None = None
    """A CSV of the site's own interactions."""
    log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    """Of what goes to stderr; nothing of a patient does at any level."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or something for eyes."""
    tracing: bool = False
    """OpenTelemetry spans, to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra `otel`."""

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("wanted an address such as https://rx.example.org")
        return url.rstrip("/")

    @field_validator("store")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).password or "password" in parse_qs(urlsplit(url).query)):
            raise ValueError("a password does not belong in settings; give the URL as $RXDRAFT_STORE")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if ipaddress.ip_network(proxy).prefixlen == 0:
                raise ValueError("everybody is no proxy; name its address")
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(encrypted(origin))
            if origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError("wanted origins such as https://ehr.example.org, without a path; no *")
        return origins

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if problems := list(self._contradictions()):
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.dev and not is_loopback(self.hostname):
            yield "dev is for loopback; leave it out, or take a public_url such as http://127.0.0.1:8000"
        if self.dev and self.trusted_proxies:
            yield "dev answers without keys, and a proxy would bring others in; leave out trusted_proxies"
        if not self.dev and any(client.issuer == SANDBOX_ISSUER for client in self.cds_clients):
            yield f"the private key of {SANDBOX_ISSUER} is public; it is for dev only"
        for name in ("oidc", "cds_clients"):
            issuers = [source.issuer for source in getattr(self, name)]
            if len(set(issuers)) < len(issuers):
                yield f"{name} names an issuer twice"

    @property
    def secure(self) -> bool:
        """Whether people reach the service over https."""
        return self.public_url.startswith("https://")

    @property
    def hostname(self) -> str:
        """The host that people call, without a port."""
        return urlsplit(self.public_url).hostname or ""

    @property
    def origin(self) -> str:
        """What their browsers send as `Origin`."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"


def read_settings(path: Path | None = None, overrides: Sequence[str] = (), **given: Any) -> Settings:
    """Read settings from a TOML file, put `key=value` pairs over them, then what options of the command gave.

    Args:
        path: None: defaults alone.
        overrides: values as in TOML; what is none is taken as a word.
        given: None counts as not given.

    Raises:
        ConfigError: the file, a pair or the settings are wrong; every problem is named, no value is quoted.
    """
    values, problems = _read_toml(path) if path else {}, []
    for pair in overrides:
        key, separator, value = pair.partition("=")
        if separator:
            values[key.strip()] = _toml_value(value.strip())
        else:
            problems.append("--set wants key=value")
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_describe(dict(detail)) for detail in error.errors(include_input=False)]
    if problems:
        raise ConfigError(f"settings {path or 'given'}: {'; '.join(problems)}")
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path} is no file; give one of settings in TOML")
    if anybody_may_write(path):
        raise ConfigError(f"{path} may be written by anybody, who could let themselves in; chmod o-w it")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings {path} are not TOML: {error}") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _describe(detail: dict[str, Any]) -> str:
    where = ".".join(map(str, detail["loc"]))
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return f"{where} is no setting; known are {', '.join(sorted(Settings.model_fields))}"
    return f"{where}: {message}" if where else message
