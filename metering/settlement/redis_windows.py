"""Rebuilds the sliding windows of a Redis that lost them, from the ledger and the streams.

A shard without its epoch key admits nobody. Its windows are what was committed in the last 24
hours, by Redis' own time of the commit (the milliseconds of the stream id): events the ledger has
and events still in the stream, each once; corrections where the events stand that they correct.
Tenants' windows only, like the caps that exist.
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
from metering.events import Kind
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
        """Count one event into the bucket of its commit, or of the commit that it corrects."""
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
    found_ms: dict[str, int] = field(default_factory=dict)
    """When the events were committed that were found in the stream, by their ids."""
    corrections: list[Arrival] = field(default_factory=list)
    """Corrections of the stream that are not counted yet: where, is known once all is read."""

    async def count_stream(self) -> None:
        """Count what came after what is counted; an id that comes twice counts once."""
        while page := await self._page():
            for stream_id, fields in page:
                self.last_id = stream_id.decode()
                arrival = read_entry(make_entry(self.shard, stream_id, fields))
                if isinstance(arrival, Arrival) and arrival.event.event_id not in self.found_ms:
                    self.found_ms[arrival.event.event_id] = arrival.entry.position[0]
                    if arrival.event.corrects is None:
                        _count_arrival(arrival, arrival.entry.position[0], self.spent)
                    else:
                        self.corrections.append(arrival)

    def count_ledger(self, ledger: Ledger, since_ms: int) -> None:
        """Count what the ledger has and the stream had not.

        The stream was read first: what has been settled and trimmed since then was found there.
        """
        with ledger.read() as connection:
            for row in _recent_rows(connection, self.shard, since_ms):
                if row.event_id not in self.found_ms:
                    _count_row(row, since_ms, self.spent)

    def count_corrections(self, ledger: Ledger, since_ms: int) -> None:
        """Count the stream's corrections where the events stand that they correct."""
        waiting, self.corrections = self.corrections, []
        unknown = {str(each.event.corrects) for each in waiting} - self.found_ms.keys()
        booked = _commit_times(ledger, unknown) if unknown else {}
        for each in waiting:
            corrects = str(each.event.corrects)
            at_ms = self.found_ms.get(corrects) or booked.get(corrects, each.entry.position[0])
            if at_ms >= since_ms:  # what is corrected may have left the window
                _count_arrival(each, at_ms, self.spent)

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
    await asyncio.to_thread(rebuild.count_corrections, ledger, since_ms)
    script = await asyncio.to_thread(_script)
    restored: set[str] = set()  # a commit that comes later has added itself to these
    while missing := sorted(rebuild.spent.by_tenant.keys() - restored):
        if await rebuild.restore(script, missing[0]):
            restored.add(missing[0])
        else:
            await rebuild.count_stream()
            await asyncio.to_thread(rebuild.count_corrections, ledger, since_ms)
    await redis.set(keys.epoch(shard), str(now_ms), nx=True)


def _count_arrival(arrival: Arrival, at_ms: int, spent: Spent) -> None:
    event = arrival.event
    spent.add(
        event.tenant,
        at_ms,
        nano=event.admission_nano,
        tokens=sum(event.units.get(unit, 0) for unit in TOKEN_CLASSES),
        requests=_requests(event.attempt, event.kind),
    )


def _count_row(row: Any, since_ms: int, spent: Spent) -> None:
    at_ms = row.stream_ms if row.corrected_ms is None else row.corrected_ms
    if at_ms < since_ms:  # what it corrects has left the window, and took its amounts along
        return
    spent.add(
        row.tenant,
        at_ms,
        nano=row.admission_nano,
        tokens=sum(getattr(row, quantity_column(unit)) or 0 for unit in TOKEN_CLASSES),
        requests=_requests(row.attempt, row.kind),
    )


def _requests(attempt: int, kind: str) -> int:
    """The attempts of an exchange are committed together; a correction takes its request back."""
    if attempt != 1:
        return 0
    return -1 if kind == Kind.CORRECTION else 1


def _commit_times(ledger: Ledger, event_ids: set[str]) -> dict[str, int]:
    query = select(_EVENT.event_id, _EVENT.stream_ms).where(_EVENT.event_id.in_(event_ids))
    with ledger.read() as connection:
        return {row.event_id: row.stream_ms for row in connection.execute(query)}


def _recent_rows(connection: Connection, shard: int, since_ms: int) -> Iterator[Any]:
    columns = [_EVENT[quantity_column(unit)] for unit in TOKEN_CLASSES]
    corrected = usage_event.alias("corrected")
    query = (
        select(
            _EVENT.event_id,
            _EVENT.tenant,
            _EVENT.stream_ms,
            _EVENT.admission_nano,
            _EVENT.attempt,
            _EVENT.kind,
            corrected.c.stream_ms.label("corrected_ms"),
            *columns,
        )
        .outerjoin(corrected, corrected.c.event_id == _EVENT.corrects)
        .where(_EVENT.shard == shard, _EVENT.stream_ms >= since_ms)
        .execution_options(yield_per=_PAGE)
    )
    yield from connection.execute(query)


def _script() -> str:
    return (Path(metering.__file__).parent / "lua" / "restore.lua").read_text()
