"""The tables of credit: what tenants were granted, and what became of it.

`credit_grant` and `grant_entry` are append-only and say everything; `grant_standing`,
`credit_tenant` and `credit_level` are derived from them and from the events.
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
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("credit_grant", "grant_entry")

credit_grant = Table(
    "credit_grant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),  # paid | promo
    Column("priority", Integer, nullable=False),  # the smallest is drawn first
    Column("amount_nano", BigInteger, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # NULL: never
    Column("source", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("txn_id", BigInteger, ForeignKey("txn.id"), nullable=False),
    CheckConstraint("kind IN ('paid', 'promo')", name="ck_credit_grant_kind"),
    CheckConstraint("amount_nano > 0", name="ck_credit_grant_amount"),
    Index("ix_credit_grant_tenant", "tenant"),
)

grant_entry = Table(  # what was drawn from a grant, given back to it, taken away, or expired
    "grant_entry",
    metadata,
    Column("grant_id", Text, ForeignKey("credit_grant.id"), nullable=False),
    Column("number", Integer, nullable=False),  # place among the grant's entries, from 1
    Column("txn_id", BigInteger, ForeignKey("txn.id"), nullable=False),
    Column("kind", Text, nullable=False),  # draw | back | expire | take | again
    Column("event_id", Text),  # of draw and back: the event, or the close, that caused it
    Column("root", Text),  # of draw and back: the event, which others correct, or month paid for
    Column("amount_nano", BigInteger, nullable=False),  # what is left changes by this
    Column("expired_nano", BigInteger, nullable=False),  # what has expired changes by this
    Column("owed_nano", BigInteger, nullable=False),  # what the tenant owes again, by this
    PrimaryKeyConstraint("grant_id", "number"),
    UniqueConstraint("event_id", "grant_id", name="uq_grant_entry_event"),
    CheckConstraint(
        "kind IN ('draw', 'back', 'expire', 'take', 'again')", name="ck_grant_entry_kind"
    ),
    CheckConstraint(
        "(kind IN ('draw', 'back')) = (event_id IS NOT NULL AND root IS NOT NULL)",
        name="ck_grant_entry_event",
    ),
    Index("ix_grant_entry_root", "root"),
    Index("ix_grant_entry_txn", "txn_id"),
)

grant_standing = Table(  # derived: a grant's amount and its entries, summed
    "grant_standing",
    metadata,
    Column("grant_id", Text, ForeignKey("credit_grant.id"), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("left_nano", BigInteger, nullable=False),
    Column("drawn_nano", BigInteger, nullable=False),
    Column("expired_nano", BigInteger, nullable=False),
    Column("taken_nano", BigInteger, nullable=False),  # of what was there, not of what was spent
    Column("owed_nano", BigInteger, nullable=False),
    CheckConstraint("left_nano >= 0", name="ck_grant_standing_left"),
    Index("ix_grant_standing_tenant", "tenant"),
)

credit_tenant = Table(  # derived: what Redis has counted against a tenant's balance, ever
    "credit_tenant",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),  # events of the chain up to here are counted
    Column("counted_nano", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "shard"),
)

credit_watermark = Table(
    "credit_watermark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # last event of the chain that was drawn for
)

credit_level = Table(  # which balances are low, so that each crossing is told once
    "credit_level",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("level_nano", BigInteger, nullable=False),
    Column("is_below", Boolean, nullable=False),
    Column("crossings", Integer, nullable=False),
    PrimaryKeyConstraint("tenant", "level_nano"),
)
