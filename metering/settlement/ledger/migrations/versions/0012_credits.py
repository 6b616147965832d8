"""What tenants were granted, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("credit_grant", "grant_entry")


def upgrade() -> None:
    """Add the tables, then the triggers that keep grants and their entries."""
    _add_grants()
    _add_entries()
    _add_derived()
    for table in _APPEND_ONLY:
        _keep(table)


def _add_grants() -> None:
    op.create_table(
        "credit_grant",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("txn_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"]),
        sa.CheckConstraint("kind IN ('paid', 'promo')", name="ck_credit_grant_kind"),
        sa.CheckConstraint("amount_nano > 0", name="ck_credit_grant_amount"),
    )
    op.create_index("ix_credit_grant_tenant", "credit_grant", ["tenant"])


def _add_entries() -> None:
    op.create_table(
        "grant_entry",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("txn_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text()),
        sa.Column("root", sa.Text()),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("expired_nano", sa.BigInteger(), nullable=False),
        sa.Column("owed_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grant_id", "number"),
        sa.ForeignKeyConstraint(["grant_id"], ["credit_grant.id"]),
        sa.ForeignKeyConstraint(["txn_id"], ["txn.id"]),
        sa.UniqueConstraint("event_id", "grant_id", name="uq_grant_entry_event"),
        sa.CheckConstraint(
            "kind IN ('draw', 'back', 'expire', 'take', 'again')", name="ck_grant_entry_kind"
        ),
        sa.CheckConstraint(
            "(kind IN ('draw', 'back')) = (event_id IS NOT NULL AND root IS NOT NULL)",
            name="ck_grant_entry_event",
        ),
    )
    op.create_index("ix_grant_entry_root", "grant_entry", ["root"])
    op.create_index("ix_grant_entry_txn", "grant_entry", ["txn_id"])


def _add_derived() -> None:
    op.create_table(
        "grant_standing",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("left_nano", sa.BigInteger(), nullable=False),
        sa.Column("drawn_nano", sa.BigInteger(), nullable=False),
        sa.Column("expired_nano", sa.BigInteger(), nullable=False),
        sa.Column("taken_nano", sa.BigInteger(), nullable=False),
        sa.Column("owed_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grant_id"),
        sa.ForeignKeyConstraint(["grant_id"], ["credit_grant.id"]),
        sa.CheckConstraint("left_nano >= 0", name="ck_grant_standing_left"),
    )
    op.create_index("ix_grant_standing_tenant", "grant_standing", ["tenant"])
    op.create_table(
        "credit_tenant",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("counted_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "shard"),
    )
    op.create_table(
        "credit_watermark",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard"),
    )
    op.create_table(
        "credit_level",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("level_nano", sa.BigInteger(), nullable=False),
        sa.Column("is_below", sa.Boolean(), nullable=False),
        sa.Column("crossings", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "level_nano"),
    )


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
