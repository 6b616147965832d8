"""The events that the streams still have, for `weir reconcile internal`. Reads only.

How far a stream is settled is asked before its entries are read, and the ledger is asked after: so
what is settled meanwhile is found there, and never taken for lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.entries import Arrival, read_entry
from metering.settlement.internal import InStream
from metering.settlement.redis_stream import make_entry, stream_standings

PAGE = 500


async def events_in_streams(
    redis: Redis, keys: RedisKeys, *, start_ns: int, end_ns: int
) -> AsyncIterator[list[InStream]]:
    """Events that began in the period, page by page. What is no event is the dead letters'."""
    standings = await stream_standings(redis, keys)
    for shard, standing in enumerate(standings):
        newest = _position(standing.newest)
        until_ms = standing.since_ms if standing.waiting else None
        after = "-"
        while True:
            page: Any = await redis.xrange(keys.stream(shard), min=after, count=PAGE)
            if not page:
                break
            found = []
            for at, fields in page:
                read = read_entry(make_entry(shard, at, fields))
                if not isinstance(read, Arrival):
                    continue
                place = read.entry.position
                event = read.event
                if start_ns <= event.occurred_at < end_ns:
                    is_settled = place <= newest and (until_ms is None or place[0] < until_ms)
                    found.append(
                        InStream(
                            event.event_id,
                            event.tenant,
                            read.entry.digest,
                            f"shard {shard}, {read.entry.stream_id}",
                            is_settled,
                        )
                    )
            if found:
                yield found
            after = f"({page[-1][0].decode()}"


def _position(stream_id: str) -> tuple[int, int]:
    ms, _, n = stream_id.partition("-")
    return int(ms), int(n)
