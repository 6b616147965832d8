"""The tables of what is done by the clock. They refer to no other table."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from metering.settlement.ledger.tables import metadata

job_schedule = Table(
    "job_schedule",
    metadata,
    Column("job", Text, primary_key=True),
    Column("schedule", Text, nullable=False),  # cron fields and time zone; another begins anew
    Column("through", BigInteger, nullable=False),  # up to when it was seen to that runs are there
)

job_run = Table(
    "job_run",
    metadata,
    Column("job", Text, nullable=False),
    Column("scheduled_for", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # due | running | done | failed
    Column("attempts", Integer, nullable=False),
    Column("waits", Integer, nullable=False),  # how often it was put off; no attempts
    Column("next_at", BigInteger, nullable=False),
    Column("holder", Text),  # the process that runs it
    Column("until", BigInteger, nullable=False),  # when that is taken for dead
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("message", Text, nullable=False),
    Column("ran_by", Text, nullable=False),  # worker, or who asked for it
    PrimaryKeyConstraint("job", "scheduled_for"),
    CheckConstraint("state IN ('due', 'running', 'done', 'failed')", name="ck_job_run_state"),
    Index("ix_job_run_state", "state"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)
