"""Rows of drafts, their reviews and their rules' hits: read and written within a caller's transaction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Row, RowMapping, Select, bindparam, select, update

from serving.store.canonical import canonical, digest
from serving.store.dialects import insert_for
from serving.store.engine import Store
from serving.store.errors import UnknownDraftError
from serving.store.records import Hit, StoredDraft, StoredReview
from serving.store.schema import drafts, reviews, screening_hits

# Statements are made once: SQLAlchemy keys its cache of compiled ones by looking at all of a new one.
_REVIEWS = (
    select(reviews.c.draft_id, *(reviews.c[name] for name in StoredReview.__slots__))
    .where(reviews.c.draft_id.in_(bindparam("b_ids", expanding=True)))
    .order_by(reviews.c.draft_id, reviews.c.number)
)
_COLUMNS = [drafts.c[name] for name in (*StoredDraft.__slots__, "purged_at") if name not in ("reviews", "purged")]
_ONE = select(*_COLUMNS).where(drafts.c.draft_id == bindparam("b_id"))
_CHANGE = update(drafts).where(drafts.c.number == bindparam("b_number")).returning(*_COLUMNS)
_LOCK = (
    select(
        *(drafts.c[name] for name in ("number", "draft_id", "state", "version", "worker", "purged_at")),
        drafts.c.content.is_not(None).label("has_content"),
    )
    .where(drafts.c.draft_id == bindparam("b_id"))
    .with_for_update()
)


def read(con: Connection, query: Select[Any], named: Mapping[str, Any] | None = None) -> list[StoredDraft]:
    """Return the drafts of a query made with `columns`, in its order, each with its reviews.

    Args:
        named: the query's parameters.
    """
    rows = con.execute(query, named).mappings().all()
    made = _reviews(con, [row["draft_id"] for row in rows])
    return [_stored(row, made.get(row["draft_id"], ())) for row in rows]


def columns() -> Select[Any]:
    """Return the query that `read` understands, to be narrowed and ordered."""
    return select(*_COLUMNS)


def find(con: Connection, draft_id: str) -> StoredDraft | None:
    """Return a draft, None where no draft has this id."""
    return next(iter(read(con, _ONE, {"b_id": draft_id})), None)


def read_one(con: Connection, draft_id: str) -> StoredDraft:
    """Return a draft.

    Raises:
        UnknownDraftError: there is none.
    """
    found = find(con, draft_id)
    if found is None:
        raise UnknownDraftError("no draft has this id")
    return found


def lock(con: Connection, draft_id: str) -> Row[Any]:
    """Return what decides on a draft's change; nobody else can change it until the transaction ends.

    Raises:
        UnknownDraftError: there is none.
    """
    row: Any = con.execute(_LOCK, {"b_id": draft_id}).one_or_none()
    if row is None:
        raise UnknownDraftError("no draft has this id")
    return row


def change(con: Connection, row: Row[Any], **values: Any) -> StoredDraft:
    """Write a locked row's new values under its next version; return the draft as it then stands."""
    if "content" in values:
        values["content_sha256"] = digest(values["content"])
    values["version"] = row.version + 1
    changed = con.execute(_CHANGE, {"b_number": row.number, **values}).mappings().one()
    return _stored(changed, _reviews(con, [row.draft_id]).get(row.draft_id, ()))


def write_hits(con: Connection, draft_id: str, hits: Sequence[Hit], version: int) -> None:
    """Note the rules that fire on a version; those that fired on earlier ones keep their rows."""
    if not hits:
        return
    con.execute(
        _note_hit(con.dialect.name),
        [
            {
                "draft_id": draft_id,
                "rule_id": hit.rule_id,
                "item_ids": ",".join(hit.item_ids),
                "rule_version": hit.rule_version,
                "tier": hit.tier,
                "overridden": hit.overridden,
                "first_version": version,
                "last_version": version,
            }
            for hit in hits
        ],
    )


@cache
def _note_hit(dialect: str) -> Executable:
    row = insert_for(dialect, screening_hits)
    noted = {name: row.excluded[name] for name in ("rule_version", "tier", "overridden", "last_version")}
    return row.on_conflict_do_update(index_elements=["draft_id", "rule_id", "item_ids"], set_=noted)


def rule_ids(hits: Sequence[Hit]) -> list[str]:
    """Return the rules of hits, each once, sorted."""
    return sorted({hit.rule_id for hit in hits})


def review_hmac(store: Store, values: Mapping[Any, Any]) -> str:
    """Return the keyed digest of a review; a plain one of so short a text could be guessed."""
    told = ("review_id", "draft_id", "item_id", "decision", "reviewer", "edited_drug", "reason_code", "reason_text")
    return store.keyed(canonical([values[name] for name in told]).decode())


def is_draft(draft_id: str) -> ColumnElement[bool]:
    """Return the condition that names one draft."""
    return drafts.c.draft_id == draft_id


def _stored(row: RowMapping, made: tuple[StoredReview, ...]) -> StoredDraft:
    values: dict[str, Any] = {name: value for name, value in row.items() if name != "purged_at"}
    return StoredDraft(**values, reviews=made, purged=row["purged_at"] is not None)


def _reviews(con: Connection, draft_ids: list[str]) -> dict[str, tuple[StoredReview, ...]]:
    rows = con.execute(_REVIEWS, {"b_ids": draft_ids}).all() if draft_ids else []
    grouped = itertools.groupby(rows, key=lambda row: row[0])
    return {draft_id: tuple(StoredReview(*row[1:]) for row in group) for draft_id, group in grouped}
