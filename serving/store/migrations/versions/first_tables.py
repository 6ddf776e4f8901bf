"""The first tables, and the triggers that refuse to change what the audit trail holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.String()
JSON = sa.JSON()
MOMENT = sa.DateTime(timezone=True)
COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_REFUSED = "audit events are never changed"


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "api_keys",
        sa.Column("key_id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("secret_sha256", NAME, nullable=False),
        sa.Column("roles", JSON, nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "audit_events",
        sa.Column("seq", COUNTED, autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("object_id", NAME, nullable=False),
        sa.Column("object_sha256", NAME),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("prev_hash", NAME, nullable=False),
        sa.Column("hash", NAME, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_events_hash")),
        sa.UniqueConstraint("prev_hash", name=op.f("uq_audit_events_prev_hash")),
    )
    op.create_index(op.f("ix_audit_events_object_id_seq"), "audit_events", ["object_id", "seq"])
    op.create_table(
        "cds_cards",
        sa.Column("card_id", NAME, nullable=False),
        sa.Column("client", NAME, nullable=False),
        sa.Column("service_id", NAME, nullable=False),
        sa.Column("indicator", NAME, nullable=False),
        sa.Column("draft_id", NAME),
        sa.Column("rule_ids", JSON, nullable=False),
        sa.Column("suggestion_ids", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("card_id", name=op.f("pk_cds_cards")),
    )
    op.create_index(op.f("ix_cds_cards_created_at"), "cds_cards", ["created_at"])
    op.create_table(
        "counters",
        sa.Column("bucket_hmac", NAME, nullable=False),
        sa.Column("full_until", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("bucket_hmac", name=op.f("pk_counters")),
    )
    op.create_table(
        "drafts",
        sa.Column("number", COUNTED, nullable=False),
        sa.Column("draft_id", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("patient_ref", NAME),
        sa.Column("request", JSON),
        sa.Column("request_hmac", NAME, nullable=False),
        sa.Column("content", JSON),
        sa.Column("content_sha256", NAME),
        sa.Column("snapshot_sha256", NAME),
        sa.Column("failure", NAME),
        sa.Column("worker", NAME),
        sa.Column("lease_until", MOMENT),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("purged_at", MOMENT),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'ready', 'failed', 'cancelled', 'final')", name=op.f("ck_drafts_state")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_drafts_version")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_drafts")),
        sa.UniqueConstraint("draft_id", name=op.f("uq_drafts_draft_id")),
    )
    op.create_index(op.f("ix_drafts_created_at"), "drafts", ["created_at"])
    op.create_index(op.f("ix_drafts_owner_number"), "drafts", ["owner", "number"])
    op.create_index(op.f("ix_drafts_patient_ref_number"), "drafts", ["patient_ref", "number"])
    op.create_index(op.f("ix_drafts_state_number"), "drafts", ["state", "number"])
    op.create_table(
        "idempotency",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("key_hmac", NAME, nullable=False),
        sa.Column("body_sha256", NAME, nullable=False),
        sa.Column("draft_id", NAME),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key_hmac", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"])
    op.create_table(
        "sessions",
        sa.Column("token_sha256", NAME, nullable=False),
        sa.Column("principal", JSON, nullable=False),
        sa.Column("csrf_sha256", NAME, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"])
    op.create_table(
        "store_facts",
        sa.Column("name", NAME, nullable=False),
        sa.Column("value", NAME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_store_facts")),
    )
    op.create_table(
        "used_tokens",
        sa.Column("token_hmac", NAME, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hmac", name=op.f("pk_used_tokens")),
    )
    op.create_index(op.f("ix_used_tokens_expires_at"), "used_tokens", ["expires_at"])
    op.create_table(
        "cds_feedback",
        sa.Column("card_id", NAME, nullable=False),
        sa.Column("service_id", NAME, nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.Column("suggestion_id", NAME, nullable=False),
        sa.Column("outcome_timestamp", NAME, nullable=False),
        sa.Column("reason_code", NAME),
        sa.Column("comment", JSON),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("text_purged_at", MOMENT),
        sa.ForeignKeyConstraint(["card_id"], ["cds_cards.card_id"], name=op.f("fk_cds_feedback_card_id")),
        sa.PrimaryKeyConstraint(
            "card_id", "service_id", "outcome", "suggestion_id", "outcome_timestamp", name=op.f("pk_cds_feedback")
        ),
    )
    op.create_table(
        "reviews",
        sa.Column("number", COUNTED, nullable=False),
        sa.Column("review_id", NAME, nullable=False),
        sa.Column("draft_id", NAME, nullable=False),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("decision", NAME, nullable=False),
        sa.Column("reviewer", NAME, nullable=False),
        sa.Column("edited_drug", JSON),
        sa.Column("reason_code", NAME),
        sa.Column("reason_text", JSON),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("text_purged_at", MOMENT),
        sa.CheckConstraint("decision IN ('accept', 'edit', 'reject', 'undo')", name=op.f("ck_reviews_decision")),
        sa.ForeignKeyConstraint(["draft_id"], ["drafts.draft_id"], name=op.f("fk_reviews_draft_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reviews")),
        sa.UniqueConstraint("draft_id", "version", name=op.f("uq_reviews_draft_id_version")),
        sa.UniqueConstraint("review_id", name=op.f("uq_reviews_review_id")),
    )
    op.create_index(op.f("ix_reviews_created_at"), "reviews", ["created_at"])
    op.create_table(
        "screening_hits",
        sa.Column("draft_id", NAME, nullable=False),
        sa.Column("rule_id", NAME, nullable=False),
        sa.Column("item_ids", NAME, nullable=False),
        sa.Column("rule_version", NAME, nullable=False),
        sa.Column("tier", NAME, nullable=False),
        sa.Column("overridden", sa.Boolean(), nullable=False),
        sa.Column("first_version", sa.Integer(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["draft_id"], ["drafts.draft_id"], name=op.f("fk_screening_hits_draft_id")),
        sa.PrimaryKeyConstraint("draft_id", "rule_id", "item_ids", name=op.f("pk_screening_hits")),
    )
    (_protect_postgresql if op.get_bind().dialect.name == "postgresql" else _protect_sqlite)()


def _protect_sqlite() -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{event.lower()} BEFORE {event} ON audit_events "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
        )


def _protect_postgresql() -> None:
    """Refuse by trigger, which binds superusers too, and take the rights away from the role that made the table."""
    op.execute(
        f"CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM PUBLIC, CURRENT_USER")
