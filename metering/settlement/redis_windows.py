"""Rebuilds the sliding windows of a Redis that lost them, from the ledger and the streams.

A shard without its epoch key admits nobody. Its windows are what was committed in the last 24
hours, by Redis' own time of the commit (the milliseconds of the stream id): events the ledger has
and events still in the stream, each once. A correction counts where the event it corrects did, and
not at all once that has left. Tenants' windows only, like the caps that exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import Connection, select

import metering
from metering.caps import ROLLING_DAY, Scope, ScopeKind
from metering.events import RECOVERED
from metering.redis_keys import RedisKeys
from metering.settlement.entries import Arrival, read_entry
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.tables import quantity_column, usage_event
from metering.settlement.redis_stream import make_entry
from metering.usage import TOKEN_CLASSES

_EVENT = usage_event.c
_PAGE = 1_000
_TENANT = Scope(ScopeKind.TENANT)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a window needs to know of one event."""

    tenant: str
    event_id: str
    corrects: str | None
    stream_ms: int
    amounts: tuple[int, int, int]
    """Nano-USD, tokens, requests."""


@dataclass(slots=True)
class Spent:
    """What the tenants of a shard spent, by bucket: [nano, tokens, requests]."""

    by_tenant: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    recovered_ms: dict[str, int] = field(default_factory=dict)
    """When each recovered event was committed: these are what gets corrected."""
    corrections: list[Counted] = field(default_factory=list)

    def add(self, counted: Counted, *, is_recovered: bool) -> None:
        """Count one event into the bucket of its commit; corrections wait for what they correct."""
        if counted.corrects is not None:
            self.corrections.append(counted)
            return
        if is_recovered:
            self.recovered_ms[counted.event_id] = counted.stream_ms
        _add(self.by_tenant.setdefault(counted.tenant, {}), counted.stream_ms, counted.amounts)

    def arguments(self, tenant: str) -> list[str]:
        """The buckets as restore.lua takes them; none is below zero."""
        buckets = {number: list(sums) for number, sums in self.by_tenant[tenant].items()}
        for counted in self.corrections:
            if counted.tenant == tenant and counted.corrects in self.recovered_ms:
                _add(buckets, self.recovered_ms[counted.corrects], counted.amounts)
        used = [(bucket, sums) for bucket, sums in sorted(buckets.items()) if max(sums) > 0]
        return [
            str(number)
            for bucket, sums in used
            for number in (bucket, *(max(amount, 0) for amount in sums))
        ]


def _add(buckets: dict[int, list[int]], stream_ms: int, amounts: tuple[int, int, int]) -> None:
    sums = buckets.setdefault(stream_ms // ROLLING_DAY.bucket_ms, [0, 0, 0])
    for dimension, amount in enumerate(amounts):
        sums[dimension] += amount


async def rebuild_windows(
    ledger: Ledger, redis: Redis, keys: RedisKeys, *, shards: Iterable[int] | None = None
) -> tuple[int, ...]:
    """Restore every shard (of these, or of all) whose epoch is missing, then set it; which they
    were.

    Commits may go on meanwhile: a window is written only while the stream holds nothing that was
    not counted, in one script. Two workers doing this at once write the same.
    """
    rebuilt = []
    for shard in range(keys.shards) if shards is None else shards:
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
    ledger: Ledger
    since_ms: int
    last_id: str
    is_ledger_counted: bool = False
    spent: Spent = field(default_factory=Spent)
    event_ids: set[str] = field(default_factory=set)

    async def count_stream(self) -> None:
        """Count what came after what is counted; an id that comes twice counts once."""
        while page := await self._page():
            found = [read_entry(make_entry(self.shard, at, fields)) for at, fields in page]
            arrivals = [one for one in found if isinstance(one, Arrival)]
            self.last_id = page[-1][0].decode()
            if self.is_ledger_counted:  # a proxy may have sent again what was booked long ago
                self.event_ids |= await asyncio.to_thread(self._booked_before, arrivals)
            for arrival in arrivals:
                if arrival.event.event_id not in self.event_ids:
                    self.event_ids.add(arrival.event.event_id)
                    _count_arrival(arrival, self.spent)

    def count_ledger(self) -> None:
        """Count what the ledger has and the stream had not.

        The stream was read first: what has been settled and trimmed since then was found there.
        """
        with self.ledger.read() as connection:
            for row in _recent_rows(connection, self.shard, self.since_ms):
                if row.event_id not in self.event_ids:
                    _count_row(row, self.spent)
        self.is_ledger_counted = True

    def _booked_before(self, arrivals: Sequence[Arrival]) -> set[str]:
        """The events of these that the ledger has from another place, where they were counted."""
        places = {one.event.event_id: one.entry.stream_id for one in arrivals}
        query = select(_EVENT.event_id, _EVENT.stream_id).where(
            _EVENT.event_id.in_(places), _EVENT.stream_ms >= self.since_ms
        )
        with self.ledger.read() as connection:
            rows = connection.execute(query).all()
        return {row.event_id for row in rows if row.stream_id != places[row.event_id]}

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
    rebuild = _Rebuild(redis, keys, shard, ledger, since_ms, last_id=f"{since_ms - 1}-0")
    await rebuild.count_stream()
    await asyncio.to_thread(rebuild.count_ledger)
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
    tokens = sum(event.units.get(unit, 0) for unit in TOKEN_CLASSES)
    counted = Counted(
        event.tenant,
        event.event_id,
        event.corrects,
        arrival.entry.position[0],
        (event.admission_nano, tokens, _requests(event)),
    )
    spent.add(counted, is_recovered=event.usage_source == RECOVERED)


def _count_row(row: Any, spent: Spent) -> None:
    tokens = sum(getattr(row, quantity_column(unit)) or 0 for unit in TOKEN_CLASSES)
    counted = Counted(
        row.tenant,
        row.event_id,
        row.corrects,
        row.stream_ms,
        (row.admission_nano, tokens, _requests(row)),
    )
    spent.add(counted, is_recovered=row.usage_source == RECOVERED)


def _requests(event: Any) -> int:
    """The attempts of an exchange are committed together: the first stands for the request."""
    if event.attempt != 1:
        return 0
    return 1 if event.corrects is None else -1


def _recent_rows(connection: Connection, shard: int, since_ms: int) -> Iterator[Any]:
    columns = [_EVENT[quantity_column(unit)] for unit in TOKEN_CLASSES]
    query = (
        select(
            _EVENT.event_id,
            _EVENT.tenant,
            _EVENT.stream_ms,
            _EVENT.admission_nano,
            _EVENT.attempt,
            _EVENT.corrects,
            _EVENT.usage_source,
            *columns,
        )
        .where(_EVENT.shard == shard, _EVENT.stream_ms >= since_ms)
        .execution_options(yield_per=_PAGE)
    )
    yield from connection.execute(query)


def _script() -> str:
    return (Path(metering.__file__).parent / "lua" / "restore.lua").read_text()
