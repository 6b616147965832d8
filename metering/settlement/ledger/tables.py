"""The ledger's tables, as SQLAlchemy Core metadata; the same DDL on SQLite and PostgreSQL.

Rules: what `APPEND_ONLY` names is append-only, by trigger. Amounts are integer nano-USD, times UTC
nanoseconds, hashes lowercase hex. A change here is a migration there; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    column,
    text,
)

from metering.usage import FIRST_CLASSES, LATER_CLASSES

HEAD_REVISION = "0021"
"""The newest migration. Kept here so that a current ledger is recognised without Alembic."""

APPEND_ONLY = (
    "usage_event",
    "txn",
    "posting",
    "price_body",
    "dead_letter_resolution",
    "review_item",
    "review_step",
    "review_decision",
    "plan_version",
    "plan_statement",
    "stripe_carry",
)

metadata = MetaData()
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")


def quantity_column(unit: str) -> str:
    """The column of `usage_event` that holds the quantity of a token class."""
    return f"q_{unit}"


def _index_of_some(name: str) -> Index:
    """Of a column that few events have; in the order of their times."""
    where = column(name).is_not(None)
    full = f"ix_usage_event_{name}"
    return Index(full, name, "occurred_at", sqlite_where=where, postgresql_where=where)


usage_event = Table(
    "usage_event",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),  # place in the shard's hash chain, from 1
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("txn_id", BigInteger, ForeignKey("txn.id"), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("corrects", Text),  # no foreign key: a correction may arrive before its original
    Column("exchange_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("feature", Text),
    Column("session", Text),
    Column("run", Text),
    Column("occurred_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),  # the worker's clock; outside the chain
    Column("stream_id", Text, nullable=False),
    Column("stream_ms", BigInteger, nullable=False),  # Redis' time of the commit
    Column("provider", Text, nullable=False),
    Column("model_requested", Text, nullable=False),
    Column("model_upstream", Text, nullable=False),
    Column("model_version", Text),
    *(Column(quantity_column(unit), BigInteger) for unit in FIRST_CLASSES),
    Column("q_other", Text),  # JSON {unit: quantity} of units that are no tokens
    Column("usage_source", Text, nullable=False),
    Column("cost_version", Text),
    Column("sell_version", Text),
    Column("sell_nano", BigInteger, nullable=False),  # booked
    Column("cost_nano", BigInteger, nullable=False),  # booked
    Column("admission_nano", BigInteger, nullable=False),  # as the event says
    Column("event_cost_nano", BigInteger, nullable=False),  # as the event says
    Column("amounts", Text, nullable=False),  # JSON, see rows.encode_amounts
    Column("unpriced", Boolean, nullable=False),  # some unit found no rate; see outbox
    Column("status", Text, nullable=False),
    Column("cache_status", Text),
    Column("latency_ms", BigInteger, nullable=False),
    Column("billable", Boolean, nullable=False),
    Column("reason_code", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_hash", Text, nullable=False),
    Column("user_scope", Text),  # the id of the user's scope; NULL before migration 0007, too
    *[Column(quantity_column(unit), BigInteger) for unit in LATER_CLASSES],  # at the end, as added
    Column("ttft_ms", BigInteger),  # NULL before migration 0020, too
    UniqueConstraint("shard", "seq", name="uq_usage_event_chain"),
    CheckConstraint("(kind = 'correction') = (corrects IS NOT NULL)", name="ck_usage_event_kind"),
    Index("ix_usage_event_tenant_time", "tenant", "occurred_at"),
    Index("ix_usage_event_request", "request_id"),
    Index("ix_usage_event_stream", "shard", "stream_ms"),
    Index("ix_usage_event_exchange", "exchange_id", "seq"),
    Index("ix_usage_event_time", "occurred_at"),
    *(_index_of_some(name) for name in ("user_scope", "session")),
    Index(
        "ix_usage_event_corrects",
        "corrects",
        sqlite_where=text("corrects IS NOT NULL"),
        postgresql_where=text("corrects IS NOT NULL"),
    ),
    Index(
        "ix_usage_event_recovered",
        "exchange_id",
        sqlite_where=text("usage_source = 'recovered'"),
        postgresql_where=text("usage_source = 'recovered'"),
    ),
)

txn = Table(
    "txn",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("idem_key", Text, nullable=False, unique=True),
    Column("corrects_txn", BigInteger, ForeignKey("txn.id")),
    Column("events", Integer, nullable=False),
    Column("booked_at", BigInteger, nullable=False),
)

posting = Table(
    "posting",
    metadata,
    Column("txn_id", BigInteger, ForeignKey("txn.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),  # debit positive, see journal
    PrimaryKeyConstraint("txn_id", "seq"),
    CheckConstraint("amount_nano <> 0", name="ck_posting_amount"),
)

balance = Table(  # derived: the sum of postings
    "balance",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "account", "currency"),
)

price_body = Table(
    "price_body",
    metadata,
    Column("version", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
)

event_conflict = Table(
    "event_conflict",
    metadata,
    Column("event_id", Text, nullable=False),
    Column("payload_hash", Text, nullable=False),  # of the body that came second
    Column("kept_hash", Text, nullable=False),  # of the body that stands in usage_event
    Column("shard", Integer, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("event_id", "payload_hash"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("raw_hash", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("deliveries", BigInteger, nullable=False, server_default="1"),  # until it was given up
    UniqueConstraint("shard", "stream_id", "raw_hash", name="uq_dead_letter_entry"),
)

dead_letter_resolution = Table(
    "dead_letter_resolution",
    metadata,
    Column(
        "dead_letter_id",
        BigInteger,
        ForeignKey("dead_letter.id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("resolved_at", BigInteger, nullable=False),
    Column("resolved_by", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # booked | known | conflict
    Column("event_id", Text, nullable=False),
    Column("payload_hash", Text, nullable=False),  # of the bytes that were booked
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("state", Text, nullable=False),  # new | sent: every sink has it
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("topic", "key", name="uq_outbox_key"),
)

outbox_delivery = Table(  # what became of an alert at one sink; a row once it was tried there
    "outbox_delivery",
    metadata,
    Column("outbox_id", BigInteger, ForeignKey("outbox.id"), nullable=False),
    Column("sink", Text, nullable=False),  # its name, see metering/alert_sinks.py
    Column("state", Text, nullable=False),  # new | sent | passed (not of a kind that it wants)
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("outbox_id", "sink"),
)

watermark = Table(
    "watermark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("stream_ms", BigInteger, nullable=False),  # newest settled stream id: its two halves
    Column("stream_n", BigInteger, nullable=False),
    Column("occurred_at", BigInteger, nullable=False),  # of the newest settled event; 0 = none
    Column("events", BigInteger, nullable=False),  # length of the chain
    Column("chain_hash", Text, nullable=False),  # its head
    Column("repeats", BigInteger, nullable=False),
    Column("conflicts", BigInteger, nullable=False),
    Column("dead_letters", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),  # one row at most
    Column("id", Text, nullable=False),  # random; Redis keeps it too
    CheckConstraint("one = 1", name="ck_ledger_identity_one"),
)

spool_confirmed = Table(
    "spool_confirmed",
    metadata,
    Column("proxy_id", Text, primary_key=True),
    Column("ranges", Text, nullable=False),  # spool sequences in the ledger: 1-500,502-900
)

ROLLUP_DIMENSIONS = (
    "tenant",
    "hour",
    "project",
    "api_key_id",
    "feature",
    "provider",
    "model",
    "model_version",
    "status",
    "cache_status",
    "billable",
    "unit",
)

rollup = Table(  # derived from usage_event; '' stands for an absent dimension
    "rollup",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("hour", BigInteger, nullable=False),  # start of the hour of occurred_at
    Column("project", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("cache_status", Text, nullable=False),
    Column("billable", Boolean, nullable=False),
    Column("unit", Text, nullable=False),  # `attempt` counts the events themselves
    Column("quantity", BigInteger, nullable=False),
    Column("sell_nano", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    PrimaryKeyConstraint(*ROLLUP_DIMENSIONS),
)

rollup_watermark = Table(
    "rollup_watermark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # last event of the chain that is rolled up
)

velocity = Table(  # derived from usage_event; about a day of it is kept
    "velocity",
    metadata,
    Column("shard", Integer, nullable=False),
    Column("minute", BigInteger, nullable=False),  # of completed_at: Unix ns // 60e9
    Column("tenant", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("sell_nano", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),  # attempts; a correction takes one back
    PrimaryKeyConstraint("shard", "minute", "tenant", "api_key_id"),
)

velocity_watermark = Table(
    "velocity_watermark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # last event of the chain that is in velocity
)

review_item = Table(
    "review_item",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),  # empty: the tenant itself
    Column("mode", Text, nullable=False),  # shadow | alert | enforce
    Column("cause", Text, nullable=False),  # spend | unit_cost
    Column("since_minute", BigInteger, nullable=False),
    Column("seen_nano", BigInteger, nullable=False),  # per minute, or per request
    Column("usual_nano", BigInteger, nullable=False),
    Column("bound_nano", BigInteger, nullable=False),
    Column("judged_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_review_item_subject", "shard", "tenant", "api_key_id"),
)

review_step = Table(
    "review_step",
    metadata,
    Column("item_id", BigInteger, ForeignKey("review_item.id"), nullable=False),
    Column("step", Text, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("item_id", "step"),
)

review_decision = Table(
    "review_decision",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("item_id", BigInteger, ForeignKey("review_item.id"), nullable=False),
    Column("verdict", Text, nullable=False),  # approve | keep | rebase
    Column("level_nano", BigInteger),  # of a rebase: what is usual from now on
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Index("ix_review_decision_item", "item_id"),
)

plan_version = Table(
    "plan_version",
    metadata,
    Column("version", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("effective_from", Text, nullable=False),  # a day, YYYY-MM-DD
    Column("body", LargeBinary, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    UniqueConstraint("plan", "effective_from", name="uq_plan_version_day"),
)

plan_statement = Table(  # what a closed month comes to by the tenant's plan
    "plan_statement",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("period", Text, nullable=False),  # YYYY-MM
    Column("body", LargeBinary, nullable=False),  # see settlement/statements.py
    Column("sha256", Text, nullable=False),
    Column("closed_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "period"),
)
