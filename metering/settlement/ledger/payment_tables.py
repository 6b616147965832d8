"""The tables of payments: what providers called us back with, and what was booked for it."""

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
)

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("payment_item", "payment_decision")

payment_callback = Table(
    "payment_callback",
    metadata,
    Column("provider", Text, nullable=False),
    Column("event_id", Text, nullable=False),  # the provider's
    Column("type", Text, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # new | done | ignored | review
    Column("reason", Text),  # of the last failure, or of the state
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "event_id"),
    CheckConstraint(
        "state IN ('new', 'done', 'ignored', 'review')", name="ck_payment_callback_state"
    ),
    Index("ix_payment_callback_state", "state", "next_at"),
)

payment = Table(
    "payment",
    metadata,
    Column("provider", Text, nullable=False),
    Column("id", Text, nullable=False),  # the provider's: of Stripe the payment intent
    Column("state", Text, nullable=False),  # open | booked | unassigned | review | not_credit
    Column("reason", Text),
    Column("tenant", Text),  # whose credit it is, once booked
    Column("customer", Text),  # the provider's
    Column("currency", Text, nullable=False),
    Column("received_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("credit_nano", BigInteger, nullable=False),  # what was credited, once booked
    Column("paid_s", BigInteger, nullable=False),
    Column("looked_at", BigInteger, nullable=False),  # when the provider was asked last
    Column("due_at", BigInteger),  # when it has to be asked again, if it has to
    Column("attempts", Integer, nullable=False),
    PrimaryKeyConstraint("provider", "id"),
    CheckConstraint(
        "state IN ('open', 'booked', 'unassigned', 'review', 'not_credit')",
        name="ck_payment_state",
    ),
    Index("ix_payment_due", "due_at"),
)

payment_item = Table(
    "payment_item",
    metadata,
    Column("provider", Text, nullable=False),
    Column("id", Text, nullable=False),  # of the payment, the refund or the dispute
    Column("step", Text, nullable=False),  # paid | refunded | refund_failed | disputed | ...
    Column("payment_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("grant_id", Text, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("booked_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "id", "step"),
    Index("ix_payment_item_payment", "provider", "payment_id"),
)

payment_decision = Table(
    "payment_decision",
    metadata,
    Column("provider", Text, nullable=False),
    Column("payment_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("credit_nano", BigInteger),  # None: what was received
    Column("decided_by", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "payment_id"),
)

payment_look = Table(
    "payment_look",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("looked_at", BigInteger, nullable=False),  # for events that never came
)
