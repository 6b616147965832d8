"""Dead letters say what became of them; an event's corrections are found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count, then the table of resolutions with the triggers that keep it."""
    if op.get_bind().dialect.name == "sqlite":
        _add_deliveries_sqlite()
    else:
        op.add_column("dead_letter", _deliveries())
    _create_resolutions()
    op.create_index(
        "ix_usage_event_corrects",
        "usage_event",
        ["corrects"],
        unique=False,
        sqlite_where=sa.text("corrects IS NOT NULL"),
        postgresql_where=sa.text("corrects IS NOT NULL"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER dead_letter_resolution_no_{verb.lower()} "
                f"BEFORE {verb} ON dead_letter_resolution "
                "BEGIN SELECT RAISE(ABORT, 'dead_letter_resolution is append-only'); END"
            )
    else:
        op.execute(
            "CREATE TRIGGER dead_letter_resolution_append_only "
            "BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_resolution "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _deliveries() -> sa.Column[int]:
    return sa.Column("deliveries", sa.BigInteger(), nullable=False, server_default="1")


def _add_deliveries_sqlite() -> None:
    """Made anew, because ALTER TABLE leaves another text of the schema than a new ledger has."""
    op.execute("CREATE TEMPORARY TABLE dead_letter_old AS SELECT * FROM dead_letter")
    op.drop_table("dead_letter")
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("raw_hash", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        _deliveries(),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shard", "stream_id", "raw_hash", name="uq_dead_letter_entry"),
    )
    op.execute("INSERT INTO dead_letter SELECT *, 1 FROM dead_letter_old")
    op.execute("DROP TABLE dead_letter_old")


def _create_resolutions() -> None:
    op.create_table(
        "dead_letter_resolution",
        sa.Column("dead_letter_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_by", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("payload_hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dead_letter_id"], ["dead_letter.id"]),
        sa.PrimaryKeyConstraint("dead_letter_id"),
    )
