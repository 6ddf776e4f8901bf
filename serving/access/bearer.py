"""People and programs with a token of an identity provider (OpenID Connect, OAuth 2 with JWTs)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from serving.access.issuers import OidcProvider
from serving.access.jwks import KeySet
from serving.access.principal import Principal, Role
from serving.access.refused import RefusedError
from serving.access.tokens import audiences, unverified, verified


class BearerTokens:
    """What the configured providers' tokens are checked against."""

    def __init__(self, providers: Iterable[OidcProvider], keyed: Callable[[str], str]) -> None:
        self._providers = {provider.issuer: (provider, KeySet(provider)) for provider in providers}
        self._keyed = keyed

    def principal(self, token: str) -> Principal:
        """Return who a token stands for.

        Raises:
            RefusedError: unknown_issuer, wrong_audience, no_role, or as for `tokens.verified`.
        """
        provider, claims = self._claims(token)
        if not set(audiences(claims)) & set(provider.audience):
            raise RefusedError("wrong_audience")
        return self._person(provider, claims)

    def signed_in(self, id_token: str, provider: OidcProvider, nonce: str) -> Principal:
        """Return who an ID token stands for, which this provider gave for this sign-in.

        Raises:
            RefusedError: as for `principal`, wrong_issuer or wrong_nonce.
        """
        found, claims = self._claims(id_token)
        if found is not provider:
            raise RefusedError("wrong_issuer")
        if provider.client_id not in audiences(claims):
            raise RefusedError("wrong_audience")
        if claims.get("nonce") != nonce:
            raise RefusedError("wrong_nonce")
        return self._person(provider, claims)

    def _claims(self, token: str) -> tuple[OidcProvider, dict[str, Any]]:
        header, issuer = unverified(token)
        if issuer not in self._providers:
            raise RefusedError("unknown_issuer")
        provider, keys = self._providers[issuer]
        return provider, verified(token, header, keys, provider.algorithms, ("iss", "aud", "sub"))

    def _person(self, provider: OidcProvider, claims: dict[str, Any]) -> Principal:
        subject = claims["sub"]
        roles = _roles(provider, claims)
        if not isinstance(subject, str) or not subject:
            raise RefusedError("missing_claim")
        if not roles:
            raise RefusedError("no_role")
        name = claims.get(provider.name_claim)
        identity = self._keyed(f"{provider.issuer}\n{subject}")[:32]
        return Principal(f"oidc:{identity}", name[:200] if isinstance(name, str) else provider.name, roles)


def _roles(provider: OidcProvider, claims: dict[str, Any]) -> frozenset[Role]:
    given = _at(claims, provider.roles_claim)
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return frozenset(provider.roles[word] for word in words if isinstance(word, str) and word in provider.roles)


def _at(claims: dict[str, Any], place: str) -> Any:
    """Return a claim by its name, or by a dotted path such as realm_access.roles."""
    if place in claims:
        return claims[place]
    found: Any = claims
    for name in place.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
