"""The tables, for SQLite and PostgreSQL alike. A change here needs a migration; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)


class Name(TypeDecorator[str]):
    """A short string. PostgreSQL holds no NUL and UTF-8 no lone surrogate, and a client may send either."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Put U+FFFD or ? in the place of what cannot be stored: an id with it is found nowhere."""
        return value if value is None else value.encode(errors="replace").decode().replace("\0", "\ufffd")


class Moment(TypeDecorator[datetime]):
    """A moment in UTC to the microsecond; SQLite keeps it without the zone, and it comes back with it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the dialect takes it."""
        if value is None:
            return None
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Free text is kept as a JSON string: TEXT in PostgreSQL holds no NUL. Not JSONB, which would respell numbers.
Json = JSON(none_as_null=True)
# SQLite counts up by itself only in an INTEGER, which has 64 bits there.
Counted = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


store_facts = Table(
    "store_facts",
    metadata,
    Column("name", Name(), primary_key=True),
    Column("value", Name(), nullable=False),
)

drafts = Table(
    "drafts",
    metadata,
    Column("number", Counted, primary_key=True),  # the order of the queue and of lists
    Column("draft_id", Name(), nullable=False, unique=True),
    Column("owner", Name(), nullable=False),
    Column("source", Name(), nullable=False),
    Column("state", Name(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment(), nullable=False),
    Column("patient_ref", Name()),
    Column("request", Json),
    Column("request_hmac", Name(), nullable=False),
    Column("content", Json),
    Column("content_sha256", Name()),
    Column("snapshot_sha256", Name()),
    Column("failure", Name()),
    Column("worker", Name()),
    Column("lease_until", Moment()),
    Column("attempts", Integer, nullable=False),
    Column("purged_at", Moment()),
    CheckConstraint("state IN ('queued', 'running', 'ready', 'failed', 'cancelled', 'final')", name="state"),
    CheckConstraint("version >= 1", name="version"),
    Index(None, "owner", "number"),
    Index(None, "state", "number"),
    Index(None, "patient_ref", "number"),
    Index(None, "created_at"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("number", Counted, primary_key=True),
    Column("review_id", Name(), nullable=False, unique=True),
    Column("draft_id", Name(), ForeignKey("drafts.draft_id"), nullable=False),
    Column("item_id", Name(), nullable=False),
    Column("decision", Name(), nullable=False),
    Column("reviewer", Name(), nullable=False),
    Column("edited_drug", Json),
    Column("reason_code", Name()),
    Column("reason_text", Json),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment(), nullable=False),
    Column("text_purged_at", Moment()),
    CheckConstraint("decision IN ('accept', 'edit', 'reject', 'undo')", name="decision"),
    UniqueConstraint("draft_id", "version"),  # one change, one version: the optimistic lock's last line
    Index(None, "created_at"),
)

screening_hits = Table(
    "screening_hits",
    metadata,
    Column("draft_id", Name(), ForeignKey("drafts.draft_id"), primary_key=True),
    Column("rule_id", Name(), primary_key=True),
    Column("item_ids", Name(), primary_key=True),  # comma-separated
    Column("rule_version", Name(), nullable=False),
    Column("tier", Name(), nullable=False),
    Column("overridden", Boolean, nullable=False),
    Column("first_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),  # of the draft, in which the rule fired
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Name(), primary_key=True),
    Column("key_hmac", Name(), primary_key=True),
    Column("body_sha256", Name(), nullable=False),
    Column("draft_id", Name()),  # NULL while the first call runs
    Column("created_at", Moment(), nullable=False),
    Index(None, "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Name(), primary_key=True),
    Column("name", Name(), nullable=False),
    Column("secret_sha256", Name(), nullable=False),
    Column("roles", Json, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Moment(), nullable=False),
    Column("expires_at", Moment()),
    Column("revoked_at", Moment()),
    Column("last_used_at", Moment()),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_sha256", Name(), primary_key=True),
    Column("principal", Json, nullable=False),
    Column("csrf_sha256", Name(), nullable=False),
    Column("created_at", Moment(), nullable=False),
    Column("expires_at", Moment(), nullable=False),
    Index(None, "expires_at"),
)

cds_cards = Table(
    "cds_cards",
    metadata,
    Column("card_id", Name(), primary_key=True),
    Column("client", Name(), nullable=False),
    Column("service_id", Name(), nullable=False),
    Column("indicator", Name(), nullable=False),
    Column("draft_id", Name()),
    Column("rule_ids", Json, nullable=False),
    Column("suggestion_ids", Json, nullable=False),
    Column("created_at", Moment(), nullable=False),
    Index(None, "created_at"),
)

cds_feedback = Table(
    "cds_feedback",
    metadata,
    Column("card_id", Name(), ForeignKey("cds_cards.card_id"), primary_key=True),
    Column("service_id", Name(), primary_key=True),
    Column("outcome", Name(), primary_key=True),
    Column("suggestion_id", Name(), primary_key=True),  # empty where none was accepted
    Column("outcome_timestamp", Name(), primary_key=True),
    Column("reason_code", Name()),
    Column("comment", Json),
    Column("created_at", Moment(), nullable=False),
    Column("text_purged_at", Moment()),
)

used_tokens = Table(
    "used_tokens",
    metadata,
    Column("token_hmac", Name(), primary_key=True),  # of issuer and jti
    Column("expires_at", Moment(), nullable=False),
    Index(None, "expires_at"),
)

counters = Table(
    "counters",
    metadata,
    Column("bucket_hmac", Name(), primary_key=True),
    Column("full_until", Float(53), nullable=False),  # seconds since 1970, see counters.py
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("seq", Counted, primary_key=True, autoincrement=False),
    Column("at", Moment(), nullable=False),
    Column("action", Name(), nullable=False),
    Column("actor", Name(), nullable=False),
    Column("object_id", Name(), nullable=False),
    Column("object_sha256", Name()),
    Column("facts", Json, nullable=False),
    Column("prev_hash", Name(), nullable=False, unique=True),  # a fork of the chain is refused
    Column("hash", Name(), nullable=False, unique=True),
    Index(None, "object_id", "seq"),
)
