"""Hourly rollups: sums of the ledger's events that can be thrown away and made again.

Kept up by a watermark per shard (the last event of its chain that was summed), apart from the
settling transaction: a rollup may be some seconds late, never wrong. Unit `attempt` counts events;
a correction takes one back, as it takes back all that the event it corrects had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, select, text, update

from metering.events import Kind
from metering.settlement.ledger import tables
from metering.settlement.ledger.rows import decode_amounts
from metering.settlement.ledger.store import Ledger, add_rows, keep_rows

HOUR_NS = 3_600_000_000_000
ATTEMPT = "attempt"

CHUNK = 5_000
"""Events summed in one transaction: bounds how long a settling batch may have to wait."""

_EVENT = tables.usage_event.c
_MEASURES = ("quantity", "sell_nano", "cost_nano")
_READ = (
    _EVENT.seq,
    _EVENT.kind,
    _EVENT.tenant,
    _EVENT.occurred_at,
    _EVENT.project,
    _EVENT.api_key_id,
    _EVENT.feature,
    _EVENT.provider,
    _EVENT.model_upstream,
    _EVENT.model_version,
    _EVENT.status,
    _EVENT.cache_status,
    _EVENT.billable,
    _EVENT.amounts,
)
"""Without the payload, which is most of a row."""

_Key = tuple[Any, ...]


def update_rollups(ledger: Ledger) -> int:
    """Sum what is in the ledger and not yet in the rollups; how many events that were."""
    with ledger.read() as connection:
        shards = list(connection.execute(select(tables.watermark.c.shard)).scalars())
    done = 0
    for shard in shards:
        while count := _roll_up(ledger, shard):
            done += count
    return done


def rebuild_rollups(ledger: Ledger) -> int:
    """Throw the rollups away and sum the whole ledger again; how many events it holds."""
    with ledger.write() as connection:
        if connection.dialect.name == "postgresql":  # SQLite has locked the whole database already
            connection.execute(text("LOCK TABLE rollup_watermark IN EXCLUSIVE MODE"))
        for table in (tables.rollup, tables.rollup_watermark):
            connection.execute(delete(table))
    return update_rollups(ledger)


def _roll_up(ledger: Ledger, shard: int) -> int:
    mark = tables.rollup_watermark
    with ledger.read() as connection:
        if not _is_behind(connection, shard):
            return 0
    with ledger.write() as connection:
        keep_rows(connection, mark, [{"shard": shard, "seq": 0}])  # a row to lock
        query = select(mark.c.seq).where(mark.c.shard == shard).with_for_update()
        after = connection.execute(query).scalar_one()
        events = (
            select(*_READ)
            .where(_EVENT.shard == shard, _EVENT.seq > after)
            .order_by(_EVENT.seq)
            .limit(CHUNK)
        )
        rows = connection.execute(events).all()
        if not rows:
            return 0
        add_rows(connection, tables.rollup, _units(rows), measures=_MEASURES)
        moved = update(mark).where(mark.c.shard == shard).values(seq=rows[-1].seq)
        connection.execute(moved)
    return len(rows)


def _is_behind(connection: Connection, shard: int) -> bool:
    """Whether there is something to sum: asked without the write lock."""
    mark, head = tables.rollup_watermark, tables.watermark
    done = connection.execute(select(mark.c.seq).where(mark.c.shard == shard)).scalar() or 0
    settled = connection.execute(select(head.c.events).where(head.c.shard == shard)).scalar() or 0
    return bool(settled > done)


def _units(rows: Iterable[Any]) -> list[dict[str, Any]]:
    sums: dict[_Key, list[int]] = {}
    for row in rows:
        dimensions = (
            row.tenant,
            row.occurred_at // HOUR_NS * HOUR_NS,
            row.project,
            row.api_key_id,
            row.feature or "",
            row.provider,
            row.model_upstream,
            row.model_version or "",
            row.status,
            row.cache_status or "",
            row.billable,
        )
        _add(sums, (*dimensions, ATTEMPT), (attempts_of(row.kind), 0, 0))
        for unit, (quantity, _, sell_nano, cost_nano, *_) in decode_amounts(row.amounts).items():
            _add(sums, (*dimensions, unit), (quantity, sell_nano, cost_nano))
    names = (*tables.ROLLUP_DIMENSIONS, *_MEASURES)
    return [dict(zip(names, (*key, *sums[key]), strict=True)) for key in sorted(sums)]


def attempts_of(kind: str) -> int:
    """What an event of this kind adds to the number of attempts."""
    if kind == Kind.ADJUSTMENT:
        return 0
    return -1 if kind == Kind.CORRECTION else 1


def _add(sums: dict[_Key, list[int]], key: _Key, more: tuple[int, ...]) -> None:
    found = sums.setdefault(key, [0] * len(more))
    for place, amount in enumerate(more):
        found[place] += amount
