"""Read a JWT that somebody sent, up to its signature and times; what it may then do is for others to say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jwt

from serving.access.jwks import KeySet
from serving.access.refused import RefusedError

LEEWAY_SECONDS = 5
_LONGEST_TOKEN = 16_384


def unverified(token: str) -> tuple[dict[str, Any], str]:
    """Return the header and issuer that a token claims; nothing of it is to be believed yet.

    Raises:
        RefusedError: malformed.
    """
    if len(token) > _LONGEST_TOKEN:
        raise RefusedError("malformed")
    try:
        header = jwt.get_unverified_header(token)
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise RefusedError("malformed") from None
    if not isinstance(issuer, str):
        raise RefusedError("malformed")
    return header, issuer


def verified(
    token: str, header: dict[str, Any], keys: KeySet, algorithms: Collection[str], require: Collection[str]
) -> dict[str, Any]:
    """Return a token's claims, once its signature and its times hold; its audience is not looked at.

    Args:
        token: as sent.
        header: of `unverified`.
        keys: of its issuer.
        algorithms: allowed ones, all asymmetric.
        require: claims it must have; exp and iat anyway.

    Raises:
        RefusedError: wrong_algorithm, wrong_signature, expired, not_yet_valid, missing_claim, or as for `KeySet.find`.
    """
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise RefusedError("wrong_algorithm")
    if kid is not None and not isinstance(kid, str):
        raise RefusedError("unknown_kid")
    key = keys.find(kid, algorithm)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", *require], "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RefusedError(_REASONS.get(type(error), "malformed")) from None
    return claims


_REASONS: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "wrong_signature",
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.MissingRequiredClaimError: "missing_claim",
}


def audiences(claims: dict[str, Any]) -> list[str]:
    """Return what a token is for: its `aud`, a word or a list of words."""
    aud = claims.get("aud")
    given = aud if isinstance(aud, list) else [aud]
    return [one for one in given if isinstance(one, str)]
