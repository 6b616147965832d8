"""What was published as prices, and what was rated again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables, then the triggers that keep them."""
    op.create_table(
        "price_publication",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("cost_version", sa.Text(), nullable=False),
        sa.Column("sell_version", sa.Text(), nullable=False),
        sa.Column("eras", sa.LargeBinary(), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "rerating",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("rated_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_rerating_begun", "rerating", ["begun_at"])
    for table in ("price_publication", "rerating"):
        _keep(table)


def _keep(table: str) -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
