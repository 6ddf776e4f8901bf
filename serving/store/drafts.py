"""Drafts as they are recorded, read, reviewed and finalised; each change with its audit event in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from serving.store import draft_rows
from serving.store.canonical import digest
from serving.store.errors import FinalisedError, NotReadyError, VersionConflictError
from serving.store.idempotency import settle
from serving.store.queue import Queue
from serving.store.records import Hit, IdempotencyKey, NewDraft, NewReview, StoredDraft
from serving.store.schema import drafts, reviews

_INSERT_REVIEW = insert(reviews)


class Drafts(Queue):
    """The drafts of one store; those still to be made are its `Queue`."""

    def record(self, draft: NewDraft, *, idempotency: IdempotencyKey | None = None) -> StoredDraft:
        """Store a draft that has its content: it is ready, and may be answered once this returns.

        Raises:
            KeyReusedError, KeyRunningError: of the idempotency key.
        """
        with self._store.transaction() as con:
            settle(self._store, con, idempotency, draft.draft_id)
            stored = self._insert(con, draft, "ready")
            self._recorded(con, draft.owner, stored, draft.hits)
            return stored

    def get(self, draft_id: str) -> StoredDraft | None:
        """Return a draft, None where no draft has this id."""
        with self._store.reading() as con:
            return draft_rows.find(con, draft_id)

    def list(self, owner: str | None, before: str | None = None, most: int = 50) -> list[StoredDraft]:
        """Return drafts, the newest first.

        Args:
            owner: whose; None for everybody's.
            before: a draft_id, the last one of the page before; of an unknown one nothing is returned.
        """
        query = draft_rows.columns().order_by(drafts.c.number.desc()).limit(most)
        if owner is not None:
            query = query.where(drafts.c.owner == owner)
        if before is not None:
            number = select(drafts.c.number).where(draft_rows.is_draft(before)).scalar_subquery()
            query = query.where(drafts.c.number < number)
        with self._store.reading() as con:
            return draft_rows.read(con, query)

    def latest_for(self, patient_ref: str, owner: str, seconds: float) -> StoredDraft | None:
        """Return a patient's newest draft of this owner that is not older, ready or still to be made."""
        query = draft_rows.columns().where(
            drafts.c.patient_ref == patient_ref,
            drafts.c.owner == owner,
            drafts.c.created_at >= self._store.now() - timedelta(seconds=seconds),
            drafts.c.state.in_(("queued", "running", "ready", "final")),
        )
        with self._store.reading() as con:
            return next(iter(draft_rows.read(con, query.order_by(drafts.c.number.desc()).limit(1))), None)

    def opened(self, draft_id: str, actor: str) -> None:
        """Note that somebody read a draft."""
        with self._store.transaction() as con:
            self._audit.append(con, "draft.opened", actor, draft_id)

    def exported(self, draft_id: str, actor: str, format: str) -> None:  # noqa: A002
        """Note that somebody took a draft out of the service."""
        with self._store.transaction() as con:
            self._audit.append(con, "draft.exported", actor, draft_id, format=format)

    def review(
        self,
        draft_id: str,
        review: NewReview,
        *,
        if_version: int | None,
        content: dict[str, Any],
        hits: Sequence[Hit] = (),
        idempotency: IdempotencyKey | None = None,
    ) -> StoredDraft:
        """Store a decision about one row, and the draft as it reads with it.

        Args:
            if_version: the version that the reviewer saw; None takes any.
            content: the draft as it reads now, screened again; without free texts, which are kept for a shorter time.
            hits: the rules that fire on it.

        Raises:
            UnknownDraftError, NotReadyError, FinalisedError, VersionConflictError: the draft takes no such review.
            KeyReusedError, KeyRunningError: of the idempotency key.
        """
        with self._store.transaction() as con:
            settle(self._store, con, idempotency, draft_id)
            row = _reviewable(con, draft_id, if_version)
            made = self._insert_review(con, row, review)
            stored = draft_rows.change(con, row, content=content)
            draft_rows.write_hits(con, draft_id, hits, stored.version)
            self._audit.append(
                con,
                "draft.reviewed",
                review.reviewer,
                draft_id,
                digest(content),
                **made,
                item_id=review.item_id,
                decision=review.decision,
                reason_code=review.reason_code,
                version=stored.version,
                rule_ids=draft_rows.rule_ids([hit for hit in hits if hit.overridden]),
            )
            return stored

    def finalise(self, draft_id: str, actor: str, *, if_version: int | None, content: dict[str, Any]) -> StoredDraft:
        """Freeze a draft as it reads now, with the digest of its content.

        Raises:
            UnknownDraftError, NotReadyError, FinalisedError, VersionConflictError: it cannot be finalised.
        """
        with self._store.transaction() as con:
            row = _reviewable(con, draft_id, if_version)
            stored = draft_rows.change(con, row, state="final", content=content, snapshot_sha256=digest(content))
            versions = content.get("versions")
            self._audit.append(
                con, "draft.finalised", actor, draft_id, digest(content), version=stored.version, versions=versions
            )
            return stored

    def _insert_review(self, con: Connection, row: Row[Any], review: NewReview) -> dict[str, str]:
        """Insert the review under the draft's next version; return what the audit trail holds of it."""
        review_id = str(uuid.uuid4())
        values = {"review_id": review_id, "draft_id": row.draft_id, **asdict(review)}
        con.execute(_INSERT_REVIEW, {**values, "version": row.version + 1, "created_at": self._store.now()})
        return {"review_id": review_id, "review_hmac": draft_rows.review_hmac(self._store, values)}


def _reviewable(con: Connection, draft_id: str, if_version: int | None) -> Row[Any]:
    row = draft_rows.lock(con, draft_id)
    if row.state == "final":
        raise FinalisedError("the draft is final; make a new one")
    if row.state != "ready" or not row.has_content:
        raise NotReadyError(f"the draft is {'no longer kept' if row.purged_at else row.state}; nothing can be decided")
    if if_version is not None and if_version != row.version:
        raise VersionConflictError(f"the draft has version {row.version}, not {if_version}; read it again")
    return row
