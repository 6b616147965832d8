"""The table of invoices that were issued, as they were sent. It refers to no other table."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.settlement.ledger.tables import metadata

APPEND_ONLY = ("invoice",)

invoice = Table(
    "invoice",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("period", Text, nullable=False),  # YYYY-MM
    Column("correction", Integer, nullable=False),  # 0: the first one
    Column("seq", BigInteger, nullable=False),  # counts the ledger's invoices from 1, no gap
    Column("number", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # see settlement/documents.py
    Column("sha256", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "period", "correction"),
    UniqueConstraint("seq", name="uq_invoice_seq"),
    UniqueConstraint("number", name="uq_invoice_number"),
    CheckConstraint("correction >= 0", name="ck_invoice_correction"),
)
