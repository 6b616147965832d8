"""A ledger has an id, so that Redis can say into which one it is settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; the first worker fills it."""
    op.create_table(
        "ledger_identity",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.CheckConstraint("one = 1", name="ck_ledger_identity_one"),
        sa.PrimaryKeyConstraint("one"),
    )
