"""The tables of what Stripe was told. They refer to no other table, and nothing refers to them.

`stripe_hour` is the outbox: a row for each hour of a tenant's meter, with what the ledger says,
what Stripe has, and the one request that may be under way.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.settlement.ledger.tables import metadata

stripe_hour = Table(
    "stripe_hour",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("event_name", Text, nullable=False),  # of the meter at Stripe
    Column("hour", BigInteger, nullable=False),  # its start
    Column("customer", Text, nullable=False),  # whose it was when the row was made
    Column("mode", Text, nullable=False),  # hourly | raw
    Column("wanted", BigInteger, nullable=False),  # what the ledger says, and what was carried here
    Column("acked", BigInteger, nullable=False),  # what Stripe has taken
    Column("state", Text, nullable=False),  # idle | sending | held
    Column("rev", BigInteger, nullable=False),  # of the last request; rises with each new one
    Column("value", BigInteger),  # of the request under way
    Column("aim", BigInteger),  # what Stripe has once it is taken
    Column("identifier", Text),
    Column("first_sent_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("answers", Integer, nullable=False),  # refusals heard: each ends an Idempotency-Key
    Column("next_at", BigInteger, nullable=False),
    Column("reason", Text),  # why it is held
    Column("acked_at", BigInteger),
    Column("verified_at", BigInteger),
    Column("seen", BigInteger),  # what Stripe's summary said last
    Column("repairs", Integer, nullable=False),
    PrimaryKeyConstraint("tenant", "event_name", "hour"),
    UniqueConstraint("customer", "event_name", "hour", name="uq_stripe_hour_customer"),
    CheckConstraint("state IN ('idle', 'sending', 'held')", name="ck_stripe_hour_state"),
    Index("ix_stripe_hour_state", "state"),
)

stripe_carry = Table(
    "stripe_carry",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("from_hour", BigInteger, nullable=False),  # too old for Stripe
    Column("number", Integer, nullable=False),
    Column("into_hour", BigInteger),  # None: written off
    Column("quantity", BigInteger, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "event_name", "from_hour", "number"),
)

stripe_watermark = Table(
    "stripe_watermark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # last event of the chain that was looked at
)

stripe_lease = Table(
    "stripe_lease",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("verified_at", BigInteger, nullable=False),  # when all hours were compared last
    CheckConstraint("one = 1", name="ck_stripe_lease_one"),
)
