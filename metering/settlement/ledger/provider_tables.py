"""The tables of what providers say: their exports, the comparisons with them, and what was booked.

All of it is append-only: an export that was fetched again is another row, and the newest counts.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("provider_export", "reconciliation", "reconciliation_apply")

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

provider_export = Table(
    "provider_export",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False),  # usage | cost
    Column("since", Text, nullable=False),  # the first day that it covers, YYYY-MM-DD
    Column("until", Text, nullable=False),  # the day after the last
    Column("source", Text, nullable=False),  # api, or the name of a file
    Column("sha256", Text, nullable=False),  # of the bytes that came
    Column("body", LargeBinary, nullable=False),  # see exports/rows.py
    Column("fetched_at", BigInteger, nullable=False),
    Index("ix_provider_export_days", "provider", "kind", "until"),
)

reconciliation = Table(
    "reconciliation",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("until", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # see reconcile_money.report
    Column("sha256", Text, nullable=False),
    Column("ran_by", Text, nullable=False),
    Column("ran_at", BigInteger, nullable=False),
)

reconciliation_apply = Table(  # its events are in usage_event; written before them
    "reconciliation_apply",
    metadata,
    Column(
        "reconciliation_id",
        BigInteger,
        ForeignKey("reconciliation.id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("applied_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("applied_at", BigInteger, nullable=False),
)
