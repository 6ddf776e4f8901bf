"""Tokens of identity providers: who they stand for, and each way in which one does not hold."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.access.principal import Role

IDP = "https://login.example.org"
NOW = int(time.time())
"""When this file was read: minutes before its tests run, in a run of all of them."""
LATER = NOW + 86_400


@pytest.fixture(scope="module")
def idp(issuer):
    return issuer(IDP)


@pytest.fixture(scope="module")
def provider(idp) -> dict[str, Any]:
    return {
        "issuer": IDP,
        "jwks_file": idp.jwks_file,
        "audience": ["rxdraft"],
        "algorithms": ["RS256", "ES384"],
        "roles_claim": "realm_access.roles",
        "roles": {"doctors": Role.CLINICIAN, "quality": Role.EVALUATOR},
    }


@pytest.fixture(scope="module")
def client(service, provider):
    return TestClient(service(oidc=[provider]), base_url="https://rx.example.org")


def claims(**changed: Any) -> dict[str, Any]:
    return {"aud": "rxdraft", "realm_access": {"roles": ["doctors", "staff"]}, "name": "Jane", **changed}


def call(client, token: str, path: str = "/draft") -> Any:
    return client.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("alg", ["ES384", "RS256"])
def test_a_person_with_a_role_is_let_in_under_a_name_that_tells_nothing(client, idp, store, alg):
    answer = call(client, idp.token(claims(), alg=alg))
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == f"oidc:{store.keyed(f'{IDP}{chr(10)}jane')[:32]}"


def test_two_people_are_two_principals_and_one_stays_one(client, idp):
    ids = [call(client, idp.token(claims(sub=sub))).json()["id"] for sub in ("jane", "joe", "jane")]
    assert ids[0] == ids[2] != ids[1]


def test_groups_give_roles_and_only_those_listed(client, idp):
    reader = idp.token(claims(realm_access={"roles": ["quality"]}))
    assert call(client, reader, "/read-all").status_code == 200
    assert call(client, reader, "/draft").status_code == 403


REFUSED: dict[str, dict[str, Any]] = {
    "no role": {"realm_access": {"roles": ["staff"]}},
    "no groups": {"realm_access": None},
    "groups of another shape": {"realm_access": {"roles": {"doctors": True}}},
    "groups elsewhere": {"realm_access": ["doctors"]},
    "our own word for a role": {"realm_access": {"roles": ["clinician"]}},
    "wrong audience": {"aud": "another"},
    "audiences without ours": {"aud": ["a", "b"]},
    "no audience": {"aud": None},
    "expired": {"exp": NOW - 60},
    "not yet": {"nbf": LATER},
    "from the future": {"iat": LATER},
    "no expiry": {"exp": None},
    "no start": {"iat": None},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "unknown issuer": {"iss": "https://evil.example.org"},
}


@pytest.mark.parametrize("changed", REFUSED.values(), ids=REFUSED.keys())
def test_a_token_with_such_claims_is_refused(client, idp, changed):
    answer = call(client, idp.token(claims(**changed)))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_symmetric_signature_is_refused(client, idp, alg):
    assert call(client, idp.token(claims(), alg=alg, key="s" * 64)).status_code == 401


def test_an_algorithm_that_is_not_allowed_is_refused_though_the_key_would_fit(client, idp):
    assert call(client, idp.token(claims(), alg="RS384")).status_code == 401


def test_a_stranger_with_the_providers_name_is_refused(client, issuer):
    assert call(client, issuer(IDP).token(claims())).status_code == 401


def test_a_token_may_be_used_again(client, idp):
    token = idp.token(claims())
    assert [call(client, token).status_code for _ in range(2)] == [200, 200]


def test_symmetric_algorithms_cannot_even_be_configured(service, provider):
    with pytest.raises(ValueError, match="algorithms"):
        service(oidc=[{**provider, "algorithms": ["HS256"]}])
