"""The tail of the event streams: what every machine has recorded, read by one console.

Rules:
- A range per shard and second, all in one go: it works on one server and on a Cluster, and asks
  nothing of the request path. Nothing is acknowledged and no group is made.
- When more comes than a console should read, the rest is passed over and that is said.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from metering.redis_connect import RedisRunner
from metering.redis_keys import RedisKeys
from proxy.dashboard.live_window import KEPT_S

PAGE = 500
PAGES_MAX = 8
"""Pages of one shard in one round: 64,000 events a second over sixteen shards, then some are
passed over."""
FIRST_MAX = 2_000
"""Events of one shard that are read when somebody begins to look."""

Found = list[tuple[int, dict[str, Any]]]


@dataclass(slots=True)
class StreamTail:
    """Where the reader stands in each shard's stream."""

    link: RedisRunner
    keys: RedisKeys
    _after: dict[int, str] = field(default_factory=dict)
    skipped: int = 0
    """How often the reader had to jump to the end."""

    async def begin(self, now_ms: int) -> Found:
        """What the last ten minutes left in the streams, and from here on only what is new."""
        self._after = {}
        since = str(now_ms - KEPT_S * 1000)
        parts = await asyncio.gather(
            *(self._first(shard, since) for shard in range(self.keys.shards))
        )
        return [each for part in parts for each in part]

    async def read(self) -> Found:
        """What came since the last call."""
        parts = await asyncio.gather(*(self._next(shard) for shard in range(self.keys.shards)))
        return [each for part in parts for each in part]

    async def _first(self, shard: int, since: str) -> Found:
        stream = self.keys.stream(shard)
        found: Found = []
        upto = "+"
        while len(found) < FIRST_MAX:
            entries = await self.link.call("XREVRANGE", stream, upto, since, "COUNT", PAGE)
            if entries and shard not in self._after:
                self._after[shard] = entries[0][0].decode()
            found += _events(entries)
            if len(entries) < PAGE:
                break
            upto = f"({entries[-1][0].decode()}"
        self._after.setdefault(shard, f"{since}-0")
        return found

    async def _next(self, shard: int) -> Found:
        stream = self.keys.stream(shard)
        found: Found = []
        for _ in range(PAGES_MAX):
            after = f"({self._after[shard]}"
            entries = await self.link.call("XRANGE", stream, after, "+", "COUNT", PAGE)
            if entries:
                self._after[shard] = entries[-1][0].decode()
            found += _events(entries)
            if len(entries) < PAGE:
                return found
        newest = await self.link.call("XREVRANGE", stream, "+", "-", "COUNT", 1)
        if newest:
            self._after[shard] = newest[0][0].decode()
        self.skipped += 1
        return found


async def in_flight(link: RedisRunner, keys: RedisKeys, now_ms: int) -> int:
    """How many holds are open and not overdue, over all machines."""
    counts = await asyncio.gather(
        *(
            link.call("ZCOUNT", keys.open_holds(shard), f"({now_ms}", "+inf")
            for shard in range(keys.shards)
        )
    )
    return sum(map(int, counts))


def _events(entries: Any) -> Found:
    """The readable ones; what cannot be read is the worker's business, which says so."""
    found: Found = []
    for stream_id, fields in entries:
        pairs = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
        try:
            event = orjson.loads(pairs.get(b"e", b""))
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict):
            found.append((int(stream_id.partition(b"-")[0]), event))
    return found
