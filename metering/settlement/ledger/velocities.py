"""Spend by tenant, key and minute: sums of the ledger's events that can be thrown away.

Kept up by a watermark per shard like the rollups, in the same order as the chain: an event is in
the ledger once, so it is counted once, whenever it comes. What is older than a baseline remembers
is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from metering.events import Kind
from metering.settlement.ledger import tables
from metering.settlement.ledger.rollups import HOUR_NS
from metering.settlement.ledger.store import Ledger, add_rows, keep_rows
from metering.settlement.velocity import HISTORY_DAYS, TENANT, History, Minute

MINUTE_NS = 60_000_000_000
CHUNK = 5_000
"""Events summed in one transaction: bounds how long a settling batch may have to wait."""

_EVENT, _MARK, _VELOCITY = (
    tables.usage_event.c,
    tables.velocity_watermark.c,
    tables.velocity.c,
)
_COLUMNS = (
    _EVENT.seq,
    _EVENT.tenant,
    _EVENT.api_key_id,
    _EVENT.completed_at,
    _EVENT.kind,
    _EVENT.sell_nano,
)

_REQUESTS = {Kind.CORRECTION: -1, Kind.ADJUSTMENT: 0}
"""How many requests an event is, where it is not one."""

Minutes = Sequence[tuple[int, Mapping[str, Minute]]]


def sum_minutes(ledger: Ledger, shards: Iterable[int], *, since_min: int) -> int:
    """Sum what is in the ledger and not yet in `velocity`; how many events that were.

    A shard that was never summed begins with what was committed since `since_min`.
    """
    done = 0
    for shard in shards:
        while count := _sum(ledger, shard, since_min):
            done += count
    return done


def forget_minutes(ledger: Ledger, shards: Sequence[int], *, before_min: int) -> None:
    """Delete what no baseline remembers any more."""
    old = (_VELOCITY.shard.in_(shards), _VELOCITY.minute < before_min)
    with ledger.read() as connection:
        if connection.execute(select(_VELOCITY.minute).where(*old).limit(1)).first() is None:
            return
    with ledger.write() as connection:
        connection.execute(delete(tables.velocity).where(*old))


def minutes_of(
    ledger: Ledger, shards: Sequence[int], *, after: int, through: int
) -> dict[str, Minutes]:
    """By tenant, the minutes with anything booked, each by key; `after` is not among them."""
    query = (
        select(tables.velocity)
        .where(_VELOCITY.shard.in_(shards), _VELOCITY.minute > after, _VELOCITY.minute <= through)
        .order_by(_VELOCITY.minute)
    )
    found: dict[str, dict[int, dict[str, Minute]]] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            by_key = found.setdefault(row.tenant, {}).setdefault(row.minute, {})
            by_key[row.api_key_id] = Minute(int(row.sell_nano), int(row.requests))
    return {tenant: list(by_minute.items()) for tenant, by_minute in found.items()}


def highest_minute(ledger: Ledger, shard: int, tenant: str, *, key: str, since: int) -> Minute:
    """The dearest minute of a tenant (key: empty) or key since then; zeros where there is none."""
    query = (
        select(
            func.sum(_VELOCITY.sell_nano).label("nano"),
            func.sum(_VELOCITY.requests).label("requests"),
        )
        .where(_VELOCITY.shard == shard, _VELOCITY.minute >= since, _VELOCITY.tenant == tenant)
        .group_by(_VELOCITY.minute)
        .order_by(func.sum(_VELOCITY.sell_nano).desc())
        .limit(1)
    )
    if key:
        query = query.where(_VELOCITY.api_key_id == key)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    return Minute() if row is None else Minute(int(row.nano), int(row.requests))


def history_of(ledger: Ledger, tenant: str, *, now_min: int) -> History:
    """What a tenant and its keys spent by hour in the days before, from the rollups."""
    hour = now_min // 60
    rolled = tables.rollup.c
    query = (
        select(rolled.hour, rolled.api_key_id, func.sum(rolled.sell_nano).label("nano"))
        .where(
            rolled.tenant == tenant,
            rolled.hour >= (hour - 24 * HISTORY_DAYS - 1) * HOUR_NS,
            rolled.hour < hour * HOUR_NS,
        )
        .group_by(rolled.hour, rolled.api_key_id)
    )
    hours: dict[str, dict[int, int]] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            at, nano = int(row.hour) // HOUR_NS, int(row.nano)
            for subject in (TENANT, row.api_key_id):
                known = hours.setdefault(subject, {})
                known[at] = known.get(at, 0) + nano
    return History(hours)


def _sum(ledger: Ledger, shard: int, since_min: int) -> int:
    with ledger.read() as connection:
        if not _is_behind(connection, shard):
            return 0
    with ledger.write() as connection:
        after = lock_shard(connection, shard, since_min=since_min)
        events = (
            select(*_COLUMNS)
            .where(_EVENT.shard == shard, _EVENT.seq > after)
            .order_by(_EVENT.seq)
            .limit(CHUNK)
        )
        rows = connection.execute(events).all()
        if not rows:
            return 0
        sums = _sums(shard, rows, since_min)
        add_rows(connection, tables.velocity, sums, measures=("sell_nano", "requests"))
        moved = update(tables.velocity_watermark).where(_MARK.shard == shard)
        connection.execute(moved.values(seq=rows[-1].seq))
    return len(rows)


def lock_shard(connection: Connection, shard: int, *, since_min: int) -> int:
    """Hold the shard's row to the end of the transaction; the last event that was summed."""
    query = select(_MARK.seq).where(_MARK.shard == shard).with_for_update()
    found = connection.execute(query).scalar()
    if found is None:
        since_ms = since_min * MINUTE_NS // 1_000_000
        before = select(func.max(_EVENT.seq)).where(
            _EVENT.shard == shard, _EVENT.stream_ms < since_ms
        )
        first = connection.execute(before).scalar() or 0
        keep_rows(connection, tables.velocity_watermark, [{"shard": shard, "seq": first}])
        found = connection.execute(query).scalar_one()
    return int(found)


def _is_behind(connection: Connection, shard: int) -> bool:
    """Whether there is something to sum: asked without the write lock."""
    head = tables.watermark.c
    done = connection.execute(select(_MARK.seq).where(_MARK.shard == shard)).scalar() or 0
    settled = connection.execute(select(head.events).where(head.shard == shard)).scalar() or 0
    return bool(settled > done)


def _sums(shard: int, rows: Iterable[Any], since_min: int) -> list[dict[str, Any]]:
    sums: dict[tuple[int, str, str], list[int]] = {}
    for row in rows:
        minute = row.completed_at // MINUTE_NS
        if minute < since_min:  # of a spool that waited for long: no baseline remembers it
            continue
        found = sums.setdefault((minute, row.tenant, row.api_key_id), [0, 0])
        found[0] += row.sell_nano
        found[1] += _REQUESTS.get(row.kind, 1)
    names = ("shard", "minute", "tenant", "api_key_id", "sell_nano", "requests")
    return [dict(zip(names, (shard, *key, *sums[key]), strict=True)) for key in sorted(sums)]
