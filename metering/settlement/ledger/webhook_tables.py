"""The tables of what other billing systems are told: what has changed, and what is on its way."""

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

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

webhook_place = Table(  # up to where an endpoint has been told
    "webhook_place",
    metadata,
    Column("endpoint", Text, nullable=False),
    Column("source", Text, nullable=False),  # usage:<shard> | statements | outbox
    Column("position", BigInteger, nullable=False),
    PrimaryKeyConstraint("endpoint", "source"),
)

webhook_change = Table(  # hours that have to be told, or told again
    "webhook_change",
    metadata,
    Column("endpoint", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("hour", BigInteger, nullable=False),
    PrimaryKeyConstraint("endpoint", "tenant", "hour"),
    Index("ix_webhook_change_hour", "hour"),
)

webhook_message = Table(  # as it is sent: the same bytes each time
    "webhook_message",
    metadata,
    Column("id", _ROW_ID, primary_key=True),  # the order of what one subject is told
    Column("endpoint", Text, nullable=False),
    Column("message_id", Text, nullable=False),  # what receivers know it by
    Column("type", Text, nullable=False),
    Column("subject", Text, nullable=False),  # the tenant
    Column("about", Text, nullable=False),  # which hour, period or alert
    Column("revision", Integer, nullable=False),  # of what it is about, from 1
    Column("digest", Text, nullable=False),  # of what it says
    Column("data", Text, nullable=False),  # JSON; its format is that of the endpoint
    Column("state", Text, nullable=False),  # new | sent | dead
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("reason", Text),  # why the last attempt failed
    Column("created_at", BigInteger, nullable=False),
    Column("tried_since", BigInteger, nullable=False),  # it is dead some days after this
    Column("sent_at", BigInteger),
    UniqueConstraint("endpoint", "message_id", name="uq_webhook_message_id"),
    UniqueConstraint("endpoint", "type", "subject", "about", "revision", name="uq_webhook_message"),
    CheckConstraint("state IN ('new', 'sent', 'dead')", name="ck_webhook_message_state"),
    Index("ix_webhook_message_state", "endpoint", "state", "subject", "id"),
)
