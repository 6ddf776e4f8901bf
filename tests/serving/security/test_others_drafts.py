"""Whose draft it is: to read everybody's is not to change them, and no list or key tells of others'."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.security.conftest import BODY

ACCEPT = {"item_id": "i1", "decision": "accept", "reason_code": "risk-benefit-ratio", "if_version": 1}


@pytest.fixture
def draft(people) -> dict[str, Any]:
    return people("alice")("POST", "/v1/drafts", json=BODY).json()


@pytest.mark.parametrize(
    ("action", "body"),
    [("reviews", ACCEPT), ("cancel", None), ("finalize", {"if_version": 1})],
    ids=lambda one: str(one)[:8],
)
@pytest.mark.parametrize("name", ["bob", "both"])
def test_only_who_made_a_draft_changes_it(people, draft, name, action, body):
    place = f"/v1/drafts/{draft['draft_id']}"
    refused, unknown = (people(name)("POST", f"{one}/{action}", json=body) for one in (place, "/v1/drafts/none"))
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert refused.json() | {"request_id": 0} == unknown.json() | {"request_id": 0}
    assert people("alice")("GET", place).json() == draft


def test_who_may_read_all_drafts_reads_this_one(people, draft):
    assert people("both")("GET", f"/v1/drafts/{draft['draft_id']}").json() == draft


def test_a_list_holds_ones_own_drafts_only(people, draft):
    mine = people("bob")("POST", "/v1/drafts", json=BODY).json()["draft_id"]
    for query in ("", "?limit=100", f"?before={draft['draft_id']}"):
        listed = {one["draft_id"] for one in people("bob")("GET", f"/v1/drafts{query}").json()["drafts"]}
        assert draft["draft_id"] not in listed
        assert bool(query.startswith("?before")) or mine in listed


def test_the_same_idempotency_key_of_two_people_makes_two_drafts(people):
    made = [
        people(name)("POST", "/v1/drafts", json=BODY, headers={"Idempotency-Key": "the same"}).json()["draft_id"]
        for name in ("alice", "bob", "alice")
    ]
    assert made[0] == made[2] != made[1]
