"""The schema of a brand-new SQLite ledger, made from the tables instead of by the migrations.

Alembic takes longer to import than everything else that a first start does for the ledger. The
rule: what comes out is what the migrations make, stamped with their head; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect

from metering.settlement.ledger import analytics_tables as _analytics  # its tables are metadata's
from metering.settlement.ledger import (
    archive_tables,
    credit_tables,
    invoice_tables,
    payment_tables,
    price_tables,
    provider_tables,
    registry_tables,
    webhook_tables,
)
from metering.settlement.ledger import job_tables as _job_tables  # its tables are metadata's
from metering.settlement.ledger import stripe_tables as _stripe_tables  # its tables are metadata's
from metering.settlement.ledger.tables import APPEND_ONLY, HEAD_REVISION, metadata

assert _stripe_tables.stripe_hour.metadata is metadata
assert webhook_tables.webhook_message.metadata is metadata
assert _analytics.usage_series.metadata is metadata
assert _job_tables.job_run.metadata is metadata

_PARTS = (
    provider_tables,
    credit_tables,
    payment_tables,
    archive_tables,
    invoice_tables,
    price_tables,
    registry_tables,
)
"""Where else tables are named that are append-only."""

_STAMP = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def create_schema(connection: Connection) -> bool:
    """Make everything in an empty SQLite database; False, and nothing done, anywhere else."""
    if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
        return False
    metadata.create_all(connection, checkfirst=False)
    for table in (*APPEND_ONLY, *(name for part in _PARTS for name in part.APPEND_ONLY)):
        if table == "usage_event":
            continue
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    for trigger in archive_tables.guard_sqlite():
        connection.exec_driver_sql(trigger)
    _STAMP.create(connection)
    connection.execute(_STAMP.insert().values(version_num=HEAD_REVISION))
    return True
