"""The tables of what was published as prices, and of what was rated again. They refer to no other
table, and nothing refers to them; both are append-only."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("price_publication", "rerating")

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

price_publication = Table(
    "price_publication",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("cost_version", Text, nullable=False),  # of the book in force at that time
    Column("sell_version", Text, nullable=False),
    Column("eras", LargeBinary, nullable=False),  # JSON [[effective_from_ns, cost, sell], ...]
    Column("published_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("published_at", BigInteger, nullable=False),
)

rerating = Table(
    "rerating",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON: what was asked, and what it came to
    Column("rated_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Index("ix_rerating_begun", "begun_at"),
)
