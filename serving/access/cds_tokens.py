"""Who calls the CDS Hooks services: an EHR that signs each call with a JSON Web Token of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from serving.access.dependencies import bearer_token
from serving.access.hosts import is_this_machine
from serving.access.issuers import CdsClient
from serving.access.limits import refuse_over
from serving.access.principal import Principal
from serving.access.refused import RefusedError
from serving.access.state import Access, access_of
from serving.access.tokens import LEEWAY_SECONDS, audiences, unverified, verified
from serving.problems import ProblemError

ALGORITHMS = ("ES384", "RS384")
LONGEST_LIFE_SECONDS = 600
_LONGEST_JTI = 200


def cds_caller(request: Request, service_id: str | None) -> Principal:
    """Return the EHR that signed this call, id "cds:…"; writes its jti to the store, so call it in a thread.

    Args:
        request: its path, below settings.public_url, is the audience.
        service_id: None: discovery, which any known EHR may ask for.

    Raises:
        ProblemError: 401 unauthenticated, whatever is wrong (the log has the reason code); 403 forbidden, this
            issuer may not call this service; 429 rate_limited.
    """
    access = access_of(request)
    if access.settings.dev and not access.cds_clients and is_this_machine(request.scope):
        return Principal("cds:dev", "dev", frozenset())  # the public sandbox signs with a key that everybody has
    try:
        client = _signer(request, access)
    except RefusedError as refused:
        raise access.refusal(request, refused) from None
    principal = Principal(f"cds:{access.store.keyed(client.issuer)[:16]}", client.issuer, frozenset())
    refuse_over(access.calls.hit(principal.id))
    if service_id is not None and client.services is not None and service_id not in client.services:
        raise ProblemError("forbidden")
    return principal


def _signer(request: Request, access: Access) -> CdsClient:
    """Check the token, cheap things first, and its jti last: a token that fails is not used up."""
    token = bearer_token(request.headers.getlist("authorization") or [""])
    header, issuer = unverified(token)
    if header.get("alg") not in ALGORITHMS:
        raise RefusedError("wrong_algorithm")
    if issuer not in access.cds_clients:
        raise RefusedError("unknown_issuer")
    client, keys = access.cds_clients[issuer]
    if "jku" in header and header["jku"] != (client.jku or client.jwks_url):
        raise RefusedError("unlisted_jku")
    if "kid" not in header:
        raise RefusedError("unknown_kid")
    claims = verified(token, header, keys, ALGORITHMS, ("iss", "aud", "jti"))
    if audiences(claims) != [access.settings.public_url + request.scope["path"]] or _has_odd_audience(claims):
        raise RefusedError("wrong_audience")
    _use_up(access, issuer, claims)
    return client


def _has_odd_audience(claims: dict[str, Any]) -> bool:
    return isinstance(claims["aud"], list) and len(claims["aud"]) != 1


def _use_up(access: Access, issuer: str, claims: dict[str, Any]) -> None:
    """Take a token once: PyJWT accepts one that holds for months, an empty jti, and any jti again."""
    if int(claims["exp"]) - int(claims["iat"]) > LONGEST_LIFE_SECONDS:
        raise RefusedError("too_long_lived")
    jti = claims["jti"]
    if not isinstance(jti, str) or not 1 <= len(jti) <= _LONGEST_JTI:
        raise RefusedError("odd_jti")
    if not access.cds.use_jti(issuer, jti, datetime.fromtimestamp(int(claims["exp"]) + LEEWAY_SECONDS, UTC)):
        raise RefusedError("replayed")
