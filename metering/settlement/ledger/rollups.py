"""Hourly rollups: sums of the ledger's events that can be thrown away and made again.

Kept up by a watermark per shard (the last event of its chain that was summed), apart from the
settling transaction: a rollup may be some seconds late, never wrong. Unit `attempt` counts events;
a correction takes one back, as it takes back all that the event it corrects had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select, text, update

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
    with ledger.read() as connection:  # without the write lock
        behind = behind_by_shard(connection, tables.rollup_watermark)
    done = 0
    for shard, _ in behind:
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
    with ledger.write() as connection:
        after = locked_mark(connection, tables.rollup_watermark, shard)
        events = (
            select(*_READ)
            .where(_EVENT.shard == shard, _EVENT.seq > after)
            .order_by(_EVENT.seq)
            .limit(CHUNK)
        )
        rows = connection.execute(events).all()
        if rows:
            roll_up_rows(connection, shard, rows)
    return len(rows)


def roll_up_rows(connection: Connection, shard: int, rows: Sequence[Any]) -> None:
    """Sum the events after the mark of a shard, which is locked, and move it; they have at least
    the columns that are read here."""
    add_rows(connection, tables.rollup, _units(rows), measures=_MEASURES)
    move_mark(connection, tables.rollup_watermark, shard, rows[-1].seq)


def behind_by_shard(connection: Connection, mark: Table) -> list[tuple[int, int]]:
    """The shards with events after their mark in this table, and how many."""
    head = tables.watermark.c
    lacking = head.events - func.coalesce(mark.c.seq, 0)
    query = (
        select(head.shard, lacking)
        .join_from(tables.watermark, mark, mark.c.shard == head.shard, isouter=True)
        .where(lacking > 0)
        .order_by(head.shard)
    )
    return [(row[0], int(row[1])) for row in connection.execute(query)]


def locked_mark(connection: Connection, mark: Table, shard: int) -> int:
    """The last event of a shard that is summed; nobody else sums it until the transaction ends."""
    keep_rows(connection, mark, [{"shard": shard, "seq": 0}])  # a row to lock
    query = select(mark.c.seq).where(mark.c.shard == shard).with_for_update()
    return int(connection.execute(query).scalar_one())


def move_mark(connection: Connection, mark: Table, shard: int, seq: int) -> None:
    """Everything up to this event is summed."""
    connection.execute(update(mark).where(mark.c.shard == shard).values(seq=seq))


def _units(rows: Iterable[Any]) -> list[dict[str, Any]]:
    sums: dict[_Key, dict[str, list[int]]] = {}
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
        units = sums.get(dimensions)
        if units is None:
            units = sums[dimensions] = {ATTEMPT: [0, 0, 0]}
        units[ATTEMPT][0] += attempts_of(row.kind)
        for unit, (quantity, _, sell_nano, cost_nano, *_) in decode_amounts(row.amounts).items():
            found = units.get(unit)
            if found is None:
                units[unit] = [quantity, sell_nano, cost_nano]
            else:
                found[0] += quantity
                found[1] += sell_nano
                found[2] += cost_nano
    names = (*tables.ROLLUP_DIMENSIONS, *_MEASURES)
    return [
        dict(zip(names, (*dimensions, unit, *sums[dimensions][unit]), strict=True))
        for dimensions in sorted(sums)
        for unit in sorted(sums[dimensions])
    ]


def attempts_of(kind: str) -> int:
    """What an event of this kind adds to the number of attempts."""
    if kind == Kind.ADJUSTMENT:
        return 0
    return -1 if kind == Kind.CORRECTION else 1
