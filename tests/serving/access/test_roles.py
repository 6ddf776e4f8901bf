"""Who may do what: every role against every scope, and what a key may be held to."""

from __future__ import annotations

import pytest

from serving.access.principal import Principal, Role, Scope

PROMISED = {
    Role.CLINICIAN: {Scope.DRAFT, Scope.READ, Scope.SCREEN, Scope.SEARCH, Scope.MODELS},
    Role.EVALUATOR: {Scope.READ, Scope.READ_ALL, Scope.SEARCH, Scope.MODELS},
    Role.ADMIN: {Scope.AUDIT, Scope.MODELS},
}
SEES_PATIENTS = {Scope.DRAFT, Scope.READ, Scope.READ_ALL, Scope.SCREEN}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("scope", Scope)
def test_a_route_answers_the_roles_that_hold_its_scope_and_no_other(client, new_key, role, scope):
    answer = client.get(f"/{scope}", headers={"Authorization": f"Bearer {new_key(role)}"})
    assert answer.status_code == (200 if scope in PROMISED[role] else 403), answer.text
    if answer.status_code == 403:
        assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("scope", Scope)
def test_nobody_gets_nothing(client, scope):
    answer = client.get(f"/{scope}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_admin_sees_no_patient():
    assert not Principal("key:1", "a", frozenset({Role.ADMIN})).scopes & SEES_PATIENTS


def test_a_key_held_to_one_scope_does_no_more_and_gains_nothing(client, new_key):
    only = new_key(Role.CLINICIAN, only=[Scope.SEARCH, Scope.AUDIT])
    may = {scope for scope in Scope if client.get(f"/{scope}", headers=bearer(only)).status_code == 200}
    assert may == {Scope.SEARCH}


def test_two_roles_hold_what_either_holds():
    both = Principal("key:1", "a", frozenset({Role.ADMIN, Role.EVALUATOR}))
    assert both.scopes == PROMISED[Role.ADMIN] | PROMISED[Role.EVALUATOR]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
