"""Sums and times at several levels of detail, the time to the first token, and what finds events.

What is derived is filled by the worker, in turns, from the first event on; an old event's time to
the first token is read from its payload.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_DIMENSIONS = (
    "tenant",
    "project",
    "api_key_id",
    "feature",
    "provider",
    "model",
    "model_version",
    "status",
    "reason_code",
    "cache_status",
)
_MEASURES = (
    "requests",
    "attempts",
    "errors",
    "failed",
    "cache_hits",
    "sell_nano",
    "cost_nano",
    "q_input_uncached",
    "q_input_cache_read",
    "q_input_cache_write_5m",
    "q_input_cache_write_1h",
    "q_input_audio",
    "q_input_image",
    "q_output_text",
    "q_output_reasoning",
    "q_output_audio",
    "q_output_image",
)


def upgrade() -> None:
    """The column with its guard, the indexes, the tables; and away with what they replace."""
    op.add_column("usage_event", sa.Column("ttft_ms", sa.BigInteger(), nullable=True))
    _guard()
    op.create_index("ix_usage_event_exchange", "usage_event", ["exchange_id", "seq"])
    op.create_index("ix_usage_event_time", "usage_event", ["occurred_at"])
    for column in ("user_scope", "session"):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_usage_event_{column}",
            "usage_event",
            [column, "occurred_at"],
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "usage_series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _DIMENSIONS),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("level", *_DIMENSIONS, name="uq_usage_series"),
    )
    for period in ("hour", "day"):
        _create_sums(period)
    op.create_table(
        "usage_mark",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard"),
    )
    op.drop_table("rollup_latency")


def _create_sums(period: str) -> None:
    op.create_table(
        f"usage_{period}",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column(period, sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _MEASURES),
        sa.PrimaryKeyConstraint("series", period),
        sqlite_with_rowid=False,
    )
    op.create_table(
        f"usage_{period}_times",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column(period, sa.Integer(), nullable=False),
        sa.Column("le_ms", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("latency", "ttft")),
        sa.PrimaryKeyConstraint("series", period, "le_ms"),
        sqlite_with_rowid=False,
    )


def _guard() -> None:
    """The trigger names every column that never changes: made again, with the one column more."""
    if op.get_bind().dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE name = 'usage_event_no_update'"
        drop = "DROP TRIGGER usage_event_no_update"
    else:
        query = (
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgname = 'usage_event_append_only' AND tgrelid = 'usage_event'::regclass"
        )
        drop = "DROP TRIGGER usage_event_append_only ON usage_event"
    made = str(op.get_bind().execute(sa.text(query)).scalar_one())
    op.execute(drop)
    op.execute(
        sa.text(made.replace("q_output_image", "q_output_image, ttft_ms").replace(":", r"\:"))
    )
