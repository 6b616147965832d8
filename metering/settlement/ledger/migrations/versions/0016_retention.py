"""What was moved out of the ledger or erased from it, and a guard that lets just that through."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("archive_segment", "erasure", "event_erasure", "archive_rewrite")
_MOVABLE = "payload, user_scope"
_FIXED = (
    "event_id",
    "shard",
    "seq",
    "prev_hash",
    "hash",
    "txn_id",
    "schema_version",
    "kind",
    "corrects",
    "exchange_id",
    "attempt",
    "request_id",
    "tenant",
    "project",
    "api_key_id",
    "feature",
    "session",
    "run",
    "occurred_at",
    "completed_at",
    "received_at",
    "stream_id",
    "stream_ms",
    "provider",
    "model_requested",
    "model_upstream",
    "model_version",
    "q_input_uncached",
    "q_input_cache_read",
    "q_input_cache_write_5m",
    "q_input_cache_write_1h",
    "q_input_audio",
    "q_input_image",
    "q_output_text",
    "q_output_reasoning",
    "q_output_audio",
    "q_other",
    "usage_source",
    "cost_version",
    "sell_version",
    "sell_nano",
    "cost_nano",
    "admission_nano",
    "event_cost_nano",
    "amounts",
    "unpriced",
    "status",
    "cache_status",
    "latency_ms",
    "billable",
    "reason_code",
    "payload_hash",
    "q_output_image",
)
_COVERED = (
    "OLD.seq <= coalesce((SELECT last_seq FROM archive_segment WHERE shard = OLD.shard"
    " AND first_seq <= OLD.seq ORDER BY first_seq DESC LIMIT 1), 0)"
    " OR EXISTS (SELECT 1 FROM event_erasure WHERE event_id = OLD.event_id)"
)


def upgrade() -> None:
    """Add the tables, then the triggers."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "archive_segment",
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("last_hash", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "first_seq"),
    )
    op.create_table(
        "erasure",
        sa.Column("id", row_id, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("erased_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event_erasure",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("erasure_id", sa.BigInteger(), nullable=False),
        sa.Column("kept_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("ix_event_erasure_erasure", "event_erasure", ["erasure_id"])
    op.create_table(
        "archive_rewrite",
        sa.Column("id", row_id, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("erasure_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in _APPEND_ONLY:
        _keep(table)
    _guard()


def _guard() -> None:
    fixed = ", ".join(_FIXED)
    if op.get_bind().dialect.name == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'usage_event is append-only'); END"
        op.execute("DROP TRIGGER usage_event_no_update")
        op.execute(
            f"CREATE TRIGGER usage_event_no_update BEFORE UPDATE OF {fixed} ON usage_event {refuse}"
        )
        op.execute(
            f"CREATE TRIGGER usage_event_moved BEFORE UPDATE OF {_MOVABLE} ON usage_event "
            f"WHEN NOT ({_COVERED}) {refuse}"
        )
        return
    op.execute("DROP TRIGGER usage_event_append_only ON usage_event")
    op.execute(
        "CREATE TRIGGER usage_event_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF "
        f"{fixed} ON usage_event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        f"""CREATE FUNCTION refuse_unmoved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT ({_COVERED}) THEN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$"""
    )
    op.execute(
        f"CREATE TRIGGER usage_event_moved BEFORE UPDATE OF {_MOVABLE} ON usage_event "
        "FOR EACH ROW EXECUTE FUNCTION refuse_unmoved()"
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
