"""What of each proxy's spool is in the ledger becomes a set of ranges over all shards.

A highest number per shard said nothing of the holes below it, so nothing is carried over: until a
record is settled again, its proxy keeps it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the table of highest numbers."""
    op.drop_table("spool_confirmed")
    op.create_table(
        "spool_confirmed",
        sa.Column("proxy_id", sa.Text(), nullable=False),
        sa.Column("ranges", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("proxy_id"),
    )
