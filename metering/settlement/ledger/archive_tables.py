"""The tables of what was moved out of the ledger, and of what was erased from it.

They refer to no other table. All are append-only; and their rows are what the guard of
`usage_event` looks at: no payload changes without one.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, Text

from metering.settlement.ledger.tables import metadata, usage_event

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

archive_segment = Table(
    "archive_segment",
    metadata,
    Column("shard", Integer, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("prev_hash", Text, nullable=False),  # of the chain before its first event
    Column("last_hash", Text, nullable=False),  # of the chain at its last event
    Column("file", Text, nullable=False),  # its name; the folder is the configuration's
    Column("sha256", Text, nullable=False),  # of the file
    Column("bytes", BigInteger, nullable=False),
    Column("archived_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("shard", "first_seq"),
)

erasure = Table(
    "erasure",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("tenant", Text, nullable=False),  # whose user it was, and never which
    Column("erased_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("erased_at", BigInteger, nullable=False),
)

event_erasure = Table(
    "event_erasure",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("erasure_id", BigInteger, nullable=False),
    Column("kept_hash", Text, nullable=False),  # of what is left of the payload
    Index("ix_event_erasure_erasure", "erasure_id"),
)

archive_rewrite = Table(  # a file that was written again without what was erased
    "archive_rewrite",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("erasure_id", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

APPEND_ONLY = ("archive_segment", "erasure", "event_erasure", "archive_rewrite")

MOVABLE = ("payload", "user_scope")
"""What of an event may be replaced, by an archive or an erasure."""

_COVERED = (
    "OLD.seq <= coalesce((SELECT last_seq FROM archive_segment WHERE shard = OLD.shard"
    " AND first_seq <= OLD.seq ORDER BY first_seq DESC LIMIT 1), 0)"
    " OR EXISTS (SELECT 1 FROM event_erasure WHERE event_id = OLD.event_id)"
)


def guard_sqlite() -> list[str]:
    """The triggers of `usage_event` on SQLite: nothing changes but a payload that was moved."""
    refuse = "BEGIN SELECT RAISE(ABORT, 'usage_event is append-only'); END"
    fixed = ", ".join(each.name for each in usage_event.c if each.name not in MOVABLE)
    return [
        f"CREATE TRIGGER usage_event_no_update BEFORE UPDATE OF {fixed} ON usage_event {refuse}",
        (
            f"CREATE TRIGGER usage_event_moved BEFORE UPDATE OF {', '.join(MOVABLE)} "
            f"ON usage_event WHEN NOT ({_COVERED}) {refuse}"
        ),
        f"CREATE TRIGGER usage_event_no_delete BEFORE DELETE ON usage_event {refuse}",
    ]
