"""The recovered events of an exchange, and what took them back, are found by the exchange."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an index of these events only: they are few, and each batch asks for them."""
    op.create_index(
        "ix_usage_event_recovered",
        "usage_event",
        ["exchange_id"],
        unique=False,
        sqlite_where=sa.text("usage_source = 'recovered'"),
        postgresql_where=sa.text("usage_source = 'recovered'"),
    )
