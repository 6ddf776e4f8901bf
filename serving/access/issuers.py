"""Whose tokens are believed, as the settings name them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.access.addresses import encrypted
from serving.access.principal import Role

SANDBOX_ISSUER = "https://sandbox.cds-hooks.org"
"""Of the public CDS Hooks sandbox, whose private key is public too."""

_ASYMMETRIC = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Part(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeySource(Part):
    """Where the public keys of an issuer come from: a file or one URL, never what a token says."""

    issuer: str = Field(min_length=1, max_length=500)
    """The `iss` of its tokens, letter for letter."""
    jwks_file: Path | None = None
    """A JSON Web Key Set; read again when a token names a key that it lacked."""
    jwks_url: str | None = None
    """The same over https (http on loopback); no redirect is followed. Give one of the two."""

    @field_validator("jwks_url")
    @classmethod
    def _encrypted(cls, url: str | None) -> str | None:
        return url if url is None else encrypted(url)

    @model_validator(mode="after")
    def _one_source(self) -> KeySource:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give one of jwks_file and jwks_url")
        return self


class OidcProvider(KeySource):
    """An identity provider whose tokens are taken as `Authorization: Bearer`, and that people may sign in with."""

    name: str = "Single sign-on"
    """On the sign-in button."""
    audience: tuple[str, ...] = Field(min_length=1)
    """A token's `aud` must hold one of these; the client id for sign-in."""
    algorithms: tuple[_ASYMMETRIC, ...] = ("RS256", "ES256")
    """Accepted signatures, all of them asymmetric."""
    roles_claim: str = "roles"
    """The claim that holds a person's groups: a word, a list of words, or words between blanks."""
    roles: dict[str, Role]
    """Which of those words give which role; whoever has none of them is refused."""
    name_claim: str = "name"
    """The claim shown as the person's name."""
    client_id: str | None = None
    """Turns on sign-in by authorization code with PKCE; the secret, if any, is $RXDRAFT_OIDC_CLIENT_SECRET."""
    authorize_url: str | None = None
    """The provider's authorization endpoint; needed with client_id, as token_url is."""
    token_url: str | None = None
    """The provider's token endpoint."""
    request_scopes: str = "openid profile"
    """What is asked for at sign-in."""

    @model_validator(mode="after")
    def _endpoints(self) -> OidcProvider:
        urls = (self.authorize_url, self.token_url)
        if self.client_id is not None and None in urls:
            raise ValueError("client_id needs authorize_url and token_url")
        for url in urls:
            _ = url is None or encrypted(url)
        return self


class CdsClient(KeySource):
    """An EHR that may call the CDS Hooks services, with tokens it signs itself (ES384, RS384)."""

    jku: str | None = None
    """What its tokens may name as `jku`; None: `jwks_url`. It is compared, never fetched."""
    services: tuple[str, ...] | None = None
    """Ids of the services it may call; None: all."""
