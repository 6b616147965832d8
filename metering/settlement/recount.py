"""What the windows of a shard should hold at one place of its stream, from the ledger and the rest.

Rules: each event counts once, wherever it is found. The database sums what was booked up to a place
of the shard's chain; what came behind that place is counted one by one, from the stream and from
what was settled (and perhaps trimmed) in between. Since a commit moves the windows and appends its
events in one step, the sums at a place of the stream are what the windows are there, to the nano.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import Connection

from metering.caps import AnyWindow, Scope
from metering.events import RECOVERED, Kind, UsageEvent
from metering.redis_keys import RedisKeys
from metering.settlement.all_time import SERIES, AllTime
from metering.settlement.counting import (
    Rules,
    Series,
    bucket_of,
    counted_in,
    keep_ms,
    oldest_bucket,
)
from metering.settlement.entries import Arrival, Entry, read_entry
from metering.settlement.ledger.spending import (
    Sum,
    booked_between,
    booked_through,
    chain_length,
    corrections_of,
    recovered_at,
    spent_by_bucket,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.redis_stream import StreamReader, make_entry
from metering.usage import TOKEN_CLASSES

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """One window of one scope of a tenant."""

    tenant: str
    scope: Scope
    window: AnyWindow


Buckets = dict[int, list[int]]
"""By bucket: nano-USD, tokens, requests."""


@dataclass(slots=True)
class Recount:
    """The sums of some windows of a shard. `wanted` names the tenants of each (None: all)."""

    ledger: Ledger
    redis: Redis
    keys: RedisKeys
    shard: int
    rules: Rules
    wanted: Mapping[Series, Sequence[str] | None]
    now_ms: int
    all_time: AllTime = field(default_factory=AllTime)
    """Sums of balances that were made before."""
    last_id: str = "0-0"
    """The last entry of the stream that is counted."""
    spent: dict[Place, Buckets] = field(default_factory=dict)
    _seq: int = 0
    _counted: set[str] = field(default_factory=set)
    """Events that were counted one by one."""
    _recovered: dict[str, int] = field(default_factory=dict)
    _fresh: list[str] = field(default_factory=list)
    """Recovered events whose corrections were not looked for yet."""
    _corrections: list[UsageEvent] = field(default_factory=list)
    _oldest: dict[AnyWindow, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Count everything up to the end of the stream."""
        self._oldest = {
            each.window: oldest_bucket(each.window, self.now_ms) for each in self.wanted
        }
        await asyncio.to_thread(self._count_sums)
        await self.catch_up()
        await asyncio.to_thread(self._count_settled_since)

    async def catch_up(self) -> None:
        """Count what has come into the stream since."""
        while page := await self._page():
            found = [read_entry(make_entry(self.shard, at, fields)) for at, fields in page]
            self.last_id = page[-1][0].decode()
            arrivals = [one for one in found if isinstance(one, Arrival)]
            await asyncio.to_thread(self._count_unbooked, arrivals)
        if self._corrections or self._fresh:
            await asyncio.to_thread(self._correct)

    def arguments(self, place: Place) -> list[str]:
        """A window as restore.lua takes it: only what holds spend, nothing below zero."""
        used = [
            (number, sums) for number, sums in sorted(self.spent[place].items()) if max(sums) > 0
        ]
        return [
            place.window.label,
            str(keep_ms(place.window, self.now_ms)),
            *(str(each) for number, sums in used for each in (number, *(max(n, 0) for n in sums))),
        ]

    def key(self, place: Place) -> str:
        """The hash that holds this window."""
        return self.keys.scope(place.tenant, place.scope)

    def _count_sums(self) -> None:
        with self.ledger.read() as connection:
            self._seq = chain_length(connection, self.shard)
            if self._seq == 0:
                return
            for series, tenants in self.wanted.items():
                named = None if tenants is None else set(tenants)
                for row in self._sums(connection, series, tenants):
                    scope = Scope(series.kind, row.scope_id)
                    if named is not None and row.tenant not in named:
                        continue
                    if self.rules.counts(row.tenant, scope, series.window):
                        self._add(Place(row.tenant, scope, series.window), row.bucket, row.amounts)

    def _sums(
        self, connection: Connection, series: Series, tenants: Sequence[str] | None
    ) -> Iterator[Sum]:
        times = {"now_ms": self.now_ms, "through_seq": self._seq}
        if series == SERIES and tenants is not None:
            return self.all_time.spent(connection, self.shard, tenants, **times)
        return spent_by_bucket(connection, self.shard, series, tenants, **times)

    def _count_unbooked(self, arrivals: Sequence[Arrival]) -> None:
        """Count those that are in no sum; what comes twice counts once."""
        events = {one.event.event_id: one for one in arrivals}
        with self.ledger.read() as connection:
            booked = booked_through(connection, events, self.shard, self._seq)
            for event_id, arrival in events.items():
                if event_id not in booked and event_id not in self._counted:
                    self._count(arrival)

    def _count_settled_since(self) -> None:
        """Count what was settled since the sums were made, and may be trimmed already."""
        with self.ledger.read() as connection:
            through = chain_length(connection, self.shard)
            if through > self._seq:
                self._count_rows(booked_between(connection, self.shard, self._seq, through))
        self._correct()

    def _count_rows(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row.event_id in self._counted:
                continue
            entry = Entry(self.shard, row.stream_id, bytes(row.payload), row.payload_hash)
            if isinstance(found := read_entry(entry), Arrival):
                self._count(found)

    def _count(self, arrival: Arrival) -> None:
        event, at_ms = arrival.event, arrival.entry.position[0]
        self._counted.add(event.event_id)
        if event.kind == Kind.CORRECTION:
            self._corrections.append(event)
            return
        if event.usage_source == RECOVERED:
            self._recovered[event.event_id] = at_ms
            self._fresh.append(event.event_id)
        self._count_at(event, at_ms)

    def _correct(self) -> None:
        """Take back what recovered events have counted, where they did. A correction whose event
        is not known yet waits for it, and for nothing where it corrects the books alone."""
        if not self._corrections and not self._fresh:
            return
        with self.ledger.read() as connection:
            fresh, self._fresh = self._fresh, []  # a correction may be booked before its event
            self._count_rows(corrections_of(connection, fresh, self.shard, self._seq))
            originals = [each.corrects for each in self._corrections if each.corrects is not None]
            times = recovered_at(connection, originals) | self._recovered
        waiting = []
        for event in self._corrections:
            if event.corrects in times:
                self._count_at(event, times[event.corrects])
            else:
                waiting.append(event)
        self._corrections = waiting

    def _count_at(self, event: UsageEvent, at_ms: int) -> None:
        amounts = amounts_of(event)
        for scope, window in counted_in(event, self.rules):
            series = Series(scope.kind, window)
            if series in self.wanted:
                tenants = self.wanted[series]
                if tenants is None or event.tenant in tenants:
                    place = Place(event.tenant, scope, window)
                    self._add(place, bucket_of(window, at_ms), amounts)

    def _add(self, place: Place, bucket: int, amounts: tuple[int, int, int]) -> None:
        if bucket < self._oldest[place.window]:
            return
        sums = self.spent.setdefault(place, {}).setdefault(bucket, [0, 0, 0])
        for dimension, amount in enumerate(amounts):
            sums[dimension] += amount

    async def _page(self) -> Any:
        stream = self.keys.stream(self.shard)
        return await self.redis.xrange(stream, min=f"({self.last_id}", count=_PAGE)


def amounts_of(event: UsageEvent) -> tuple[int, int, int]:
    """What an event adds to its bucket. The attempts of an exchange are committed together, so the
    first stands for the request; a correction takes it back."""
    tokens = sum(event.units.get(unit, 0) for unit in TOKEN_CLASSES)
    requests = 0 if event.attempt != 1 else -1 if event.kind == Kind.CORRECTION else 1
    return event.admission_nano, tokens, requests


async def settled_id(reader: StreamReader, redis: Redis, stream: str, shard: int) -> str:
    """A stream id up to which everything is settled: a count may begin behind it."""
    last: bytes = (await redis.xinfo_stream(stream))["last-generated-id"]  # first: more may come
    before_ms = await reader.settled_before_ms(shard)
    return last.decode() if before_ms is None else f"{max(before_ms - 1, 0)}-{2**64 - 1}"
