"""Rebuilds the sliding windows of a Redis that lost them, from the ledger and the streams.

A shard without its epoch key admits nobody. Its windows are what was committed in the last 24
hours, by Redis' own time of the commit (the milliseconds of the stream id): events the ledger has
and events still in the stream, each once. Tenants' windows only, like the caps that exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import Connection, select

import metering
from metering.caps import ROLLING_DAY, Scope, ScopeKind
from metering.redis_keys import RedisKeys
from metering.settlement.entries import Arrival, read_entry
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import quantity_column, usage_event
from metering.settlement.redis_stream import make_entry
from metering.usage import TOKEN_CLASSES

_EVENT = usage_event.c
_PAGE = 1_000
_TENANT = Scope(ScopeKind.TENANT)


@dataclass(slots=True)
class Spent:
    """What the tenants of a shard spent, by bucket: [nano, tokens, requests]."""

    by_tenant: dict[str, dict[int, list[int]]] = field(default_factory=dict)

    def add(self, tenant: str, stream_ms: int, *, nano: int, tokens: int, requests: int) -> None:
        """Count one event into the bucket of its commit."""
        buckets = self.by_tenant.setdefault(tenant, {})
        sums = buckets.setdefault(stream_ms // ROLLING_DAY.bucket_ms, [0, 0, 0])
        for dimension, amount in enumerate((nano, tokens, requests)):
            sums[dimension] += amount

    def arguments(self, tenant: str) -> list[str]:
        """The buckets as restore.lua takes them. Below zero (a correction) counts as zero."""
        buckets = sorted(self.by_tenant[tenant].items())
        used = [(bucket, sums) for bucket, sums in buckets if max(sums) > 0]
        return [
            str(number)
            for bucket, sums in used
            for number in (bucket, *(max(amount, 0) for amount in sums))
        ]


async def rebuild_windows(ledger: Ledger, redis: Redis, keys: RedisKeys) -> tuple[int, ...]:
    """Restore every shard whose epoch is missing, then set it; the shards that were restored.

    Commits may go on meanwhile: a window is written only while the stream holds nothing that was
    not counted, in one script. Two workers doing this at once write the same.
    """
    rebuilt = []
    for shard in range(keys.shards):
        if not await redis.exists(keys.epoch(shard)):
            await _rebuild_shard(ledger, redis, keys, shard)
            rebuilt.append(shard)
    return tuple(rebuilt)


@dataclass(slots=True)
class _Rebuild:
    """One shard being rebuilt: how far its stream is counted, and which events were found there."""

    redis: Redis
    keys: RedisKeys
    shard: int
    last_id: str
    spent: Spent = field(default_factory=Spent)
    event_ids: set[str] = field(default_factory=set)

    async def count_stream(self) -> None:
        """Count what came after what is counted; an id that comes twice counts once."""
        while page := await self._page():
            for stream_id, fields in page:
                self.last_id = stream_id.decode()
                arrival = read_entry(make_entry(self.shard, stream_id, fields))
                if isinstance(arrival, Arrival) and arrival.event.event_id not in self.event_ids:
                    self.event_ids.add(arrival.event.event_id)
                    _count_arrival(arrival, self.spent)

    def count_ledger(self, ledger: Ledger, since_ms: int) -> None:
        """Count what the ledger has and the stream had not.

        The stream was read first: what has been settled and trimmed since then was found there.
        """
        with ledger.read() as connection:
            for row in _recent_rows(connection, self.shard, since_ms):
                if row.event_id not in self.event_ids:
                    _count_row(row, self.spent)

    async def restore(self, script: str, tenant: str) -> bool:
        """Write a tenant's window; False when the stream moved on and must be counted again."""
        answer: Any = await self.redis.eval(
            script,
            2,
            self.keys.scope(tenant, _TENANT),
            self.keys.stream(self.shard),
            self.last_id,
            ROLLING_DAY.label,
            str(ROLLING_DAY.bucket_ms),
            str(ROLLING_DAY.buckets),
            *self.spent.arguments(tenant),
        )
        return bool(answer == b"restored")

    async def _page(self) -> Any:
        stream = self.keys.stream(self.shard)
        return await self.redis.xrange(stream, min=f"({self.last_id}", count=_PAGE)


async def _rebuild_shard(ledger: Ledger, redis: Redis, keys: RedisKeys, shard: int) -> None:
    seconds, _ = await redis.time()
    now_ms = seconds * 1_000
    since_ms = now_ms - ROLLING_DAY.bucket_ms * (ROLLING_DAY.buckets + 1)
    rebuild = _Rebuild(redis, keys, shard, last_id=f"{since_ms - 1}-0")
    await rebuild.count_stream()
    await asyncio.to_thread(rebuild.count_ledger, ledger, since_ms)
    script = await asyncio.to_thread(_script)
    restored: set[str] = set()  # a commit that comes later has added itself to these
    while missing := sorted(rebuild.spent.by_tenant.keys() - restored):
        if await rebuild.restore(script, missing[0]):
            restored.add(missing[0])
        else:
            await rebuild.count_stream()
    await redis.set(keys.epoch(shard), str(now_ms), nx=True)


def _count_arrival(arrival: Arrival, spent: Spent) -> None:
    event = arrival.event
    spent.add(
        event.tenant,
        arrival.entry.position[0],
        nano=event.admission_nano,
        tokens=sum(event.units.get(unit, 0) for unit in TOKEN_CLASSES),
        requests=int(event.attempt == 1),  # the attempts of an exchange are committed together
    )


def _count_row(row: Any, spent: Spent) -> None:
    spent.add(
        row.tenant,
        row.stream_ms,
        nano=row.admission_nano,
        tokens=sum(getattr(row, quantity_column(unit)) or 0 for unit in TOKEN_CLASSES),
        requests=int(row.attempt == 1),
    )


def _recent_rows(connection: Connection, shard: int, since_ms: int) -> Iterator[Any]:
    columns = [_EVENT[quantity_column(unit)] for unit in TOKEN_CLASSES]
    query = (
        select(
            _EVENT.event_id,
            _EVENT.tenant,
            _EVENT.stream_ms,
            _EVENT.admission_nano,
            _EVENT.attempt,
            *columns,
        )
        .where(_EVENT.shard == shard, _EVENT.stream_ms >= since_ms)
        .execution_options(yield_per=_PAGE)
    )
    yield from connection.execute(query)


def _script() -> str:
    return (Path(metering.__file__).parent / "lua" / "restore.lua").read_text()
