"""Whoever changes what was recorded is found out, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.serving.store.conftest import Ward, content


@pytest.fixture
def history(ward: Ward) -> Ward:
    """Seven events: three drafts, of which two are reviewed and one is final, and one that waits."""
    one, two = ward.record(), ward.record()
    ward.review(one, decision="reject", reason_text="because")
    two = ward.review(two)
    ward.drafts.finalise(two.draft_id, "clinician", if_version=2, content=content())
    ward.record()
    ward.drafts.submit(ward.new())
    assert ward.problems() == ()
    return ward


def tamper(ward: Ward, *statements: str) -> None:
    """Change rows as the owner of the database can: with the triggers out of the way."""
    with ward.store.transaction() as con:
        if con.dialect.name == "sqlite":
            con.execute(text("DROP TRIGGER audit_events_no_update"))
            con.execute(text("DROP TRIGGER audit_events_no_delete"))
        else:
            con.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            con.execute(text(statement))


@pytest.mark.parametrize("change", ["UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events"])
def test_the_database_refuses_to_change_events(history: Ward, change: str):
    with pytest.raises(DBAPIError, match="never changed"), history.store.engine.begin() as con:
        con.execute(text(change))
    assert history.problems() == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["UPDATE audit_events SET actor = 'nobody' WHERE seq = 3"], "event 3 was changed"),
        (["UPDATE audit_events SET facts = '{}' WHERE seq = 3"], "event 3 was changed"),
        (["DELETE FROM audit_events WHERE seq = 3"], "events 3 to 3 are missing"),
        (["DELETE FROM audit_events WHERE seq <= 2"], "events 1 to 2 are missing"),
        (
            [f"UPDATE audit_events SET seq = {a} WHERE seq = {b}" for a, b in ((-1, 3), (3, 4), (4, -1))],
            "event 3 does not follow",
        ),
        (["UPDATE drafts SET content = '{}' WHERE draft_id = 'd1'"], "draft d1 has another content"),
        (["UPDATE drafts SET content = NULL WHERE draft_id = 'd1'"], "draft d1 has another content"),
        (["UPDATE drafts SET state = 'ready' WHERE draft_id = 'd2'"], "draft d2 has another state"),
        (["UPDATE drafts SET content = '7' WHERE draft_id = 'd1'"], "draft d1 has another content"),
        (["DELETE FROM drafts WHERE draft_id = 'd4'"], "draft d4 is missing"),
        (["UPDATE reviews SET decision = 'accept' WHERE draft_id = 'd1'"], "was changed after it was recorded"),
        (["""UPDATE reviews SET reason_text = '"so"' WHERE draft_id = 'd1'"""], "was changed after it was recorded"),
        (["DELETE FROM reviews WHERE draft_id = 'd1'"], "is missing"),
        (["UPDATE reviews SET review_id = 'new' WHERE draft_id = 'd1'"], "review new is not in the audit trail"),
    ],
)
def test_what_was_changed_is_found(history: Ward, change: list[str], told: str):
    tamper(history, *change)
    assert any(told in problem for problem in history.problems()), history.problems()


def test_a_cut_end_is_found_by_a_head_kept_elsewhere(history: Ward):
    head = history.audit.head()
    history.record()
    assert history.problems(head) == ()
    tamper(
        history,
        "DELETE FROM audit_events WHERE seq >= 7",
        "DELETE FROM screening_hits WHERE draft_id IN ('d4', 'd5')",
        "DELETE FROM drafts WHERE draft_id IN ('d4', 'd5')",
    )
    assert history.problems() == ()
    [problem] = history.problems(head)
    assert problem.startswith(f"head {head} is not in the chain")


def test_rewriting_the_chain_from_an_event_on_is_found_by_a_head_too(history: Ward):
    from dataclasses import asdict

    from serving.store.chain import event_hash

    head, forged, previous = history.audit.head(), [], None
    for event in history.audit.events():
        values = asdict(event) | ({"actor": "nobody"} if event.seq == 3 else {})
        values["prev_hash"] = previous or event.prev_hash
        previous = event_hash(values)
        forged.append(
            f"UPDATE audit_events SET actor = '{values['actor']}', prev_hash = '{values['prev_hash']}', "
            f"hash = '{previous}' WHERE seq = {event.seq}"
        )
    tamper(history, *forged)
    assert history.problems() == ()
    assert len(history.problems(head)) == 1


def test_events_of_many_threads_make_one_chain_without_a_gap(ward: Ward):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: ward.record(), range(40)))
    verified = ward.audit.verify()
    assert (verified.events, verified.problems, verified.head) == (40, (), ward.audit.head())


def test_a_transaction_that_fails_leaves_no_event(ward: Ward):
    def opened_and_failed() -> None:
        with ward.store.transaction() as con:
            ward.audit.append(con, "draft.opened", "reader", "d1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        opened_and_failed()
    assert ward.audit.events() == []


def test_an_event_cannot_tell_what_is_not_meant_for_it(ward: Ward):
    with pytest.raises(ValueError, match="diagnosis"), ward.store.transaction() as con:
        ward.audit.append(con, "draft.opened", "reader", "d1", diagnosis="I50")


def test_events_are_told_by_object_and_page(history: Ward):
    assert [event.seq for event in history.audit.events("d2")] == [2, 4, 5]
    assert [event.seq for event in history.audit.events(after=2, most=2)] == [3, 4]
