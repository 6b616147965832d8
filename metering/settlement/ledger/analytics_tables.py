"""The tables that analytics are read from: all of them derived from `usage_event`.

A series is one combination of dimensions; sums and times of an hour or a day refer to it by its
number, which keeps their rows small. Events are summed at several levels of detail, so that a
question about everything does not have to add up every key of every tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.settlement.ledger.tables import metadata, quantity_column
from metering.usage import TOKEN_CLASSES

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

DIMENSIONS = (
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
"""What a series may tell apart."""

COUNTS = ("requests", "attempts", "errors", "failed", "cache_hits")
QUANTITIES = tuple(quantity_column(unit) for unit in TOKEN_CLASSES)
MEASURES = (*COUNTS, "sell_nano", "cost_nano", *QUANTITIES)
TIMES = ("latency", "ttft")


@dataclass(frozen=True, slots=True)
class Level:
    """What the series of a level tell apart, and by which periods they are summed."""

    dimensions: tuple[str, ...]
    sums: tuple[str, ...]
    times: tuple[str, ...]


FULL, TENANT, UPSTREAM, FEATURE = "full", "tenant", "upstream", "feature"
FEATURE_UPSTREAM = "feature_upstream"
_UPSTREAM = ("provider", "model", "model_version", "status", "reason_code", "cache_status")
LEVELS: Mapping[str, Level] = {
    FEATURE: Level(("feature",), ("hour", "day"), ("hour", "day")),
    UPSTREAM: Level(_UPSTREAM, ("hour", "day"), ("hour", "day")),
    FEATURE_UPSTREAM: Level(("feature", *_UPSTREAM), ("hour", "day"), ("hour", "day")),
    TENANT: Level(("tenant",), ("day",), ("day",)),
    FULL: Level(DIMENSIONS, ("hour", "day"), ("hour",)),
}
"""Those with the fewest series first, which is how they are chosen."""

usage_series = Table(
    "usage_series",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("level", Text, nullable=False),
    *(Column(name, Text, nullable=False) for name in DIMENSIONS),  # '' is absent, or not told apart
    UniqueConstraint("level", *DIMENSIONS, name="uq_usage_series"),
)


def _sums(period: str) -> Table:
    return Table(
        f"usage_{period}",
        metadata,
        Column("series", BigInteger, nullable=False),
        Column(period, Integer, nullable=False),  # its number since 1970, of occurred_at
        *(Column(name, BigInteger, nullable=False) for name in MEASURES),
        PrimaryKeyConstraint("series", period),
        sqlite_with_rowid=False,
    )


def _times(period: str) -> Table:
    return Table(
        f"usage_{period}_times",
        metadata,
        Column("series", BigInteger, nullable=False),
        Column(period, Integer, nullable=False),
        Column("le_ms", Integer, nullable=False),  # the bucket, see settlement/histograms.py
        *(Column(name, BigInteger, nullable=False) for name in TIMES),
        PrimaryKeyConstraint("series", period, "le_ms"),
        sqlite_with_rowid=False,
    )


PERIODS = ("hour", "day")
SUMS = {period: _sums(period) for period in PERIODS}
HISTOGRAMS = {period: _times(period) for period in PERIODS}

usage_mark = Table(
    "usage_mark",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # last event of the chain that is summed
)

DERIVED = (*SUMS.values(), *HISTOGRAMS.values(), usage_mark)
"""What a rebuild empties; series keep their numbers."""
