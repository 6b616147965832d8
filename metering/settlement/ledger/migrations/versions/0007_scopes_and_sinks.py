"""The scope of an event's user can be summed; what each sink has taken is known by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty for what is there (rows are never changed), and the table.

    What was sent before is noted in the outbox itself and goes to no sink again.
    """
    op.add_column("usage_event", sa.Column("user_scope", sa.Text(), nullable=True))
    op.create_table(
        "outbox_delivery",
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["outbox_id"], ["outbox.id"]),
        sa.PrimaryKeyConstraint("outbox_id", "sink"),
    )
