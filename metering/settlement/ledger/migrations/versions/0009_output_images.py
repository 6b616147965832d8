"""Tokens of images in answers are a class of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty for what is there: such tokens were counted as text before."""
    op.add_column("usage_event", sa.Column("q_output_image", sa.BigInteger(), nullable=True))
