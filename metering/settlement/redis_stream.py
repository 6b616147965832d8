"""The streams of usage events, as their one consumer group sees them.

Shell: reads, claims, acknowledges, trims; decides nothing. What is acknowledged was committed
before, and trimming stays behind everything that is unread, unsettled, or recent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.entries import Entry

BATCH_MAX = 256
"""Entries per stream and read, and events per transaction: larger ones gain little (measured)."""

KEEP_MS = 3_600_000
"""Settled entries stay this long, for live dashboards and for rebuilding windows."""


def lanes(keys: RedisKeys, *, together: bool) -> tuple[tuple[int, ...], ...]:
    """Which shards are read by one command: all on a single server, each alone on a Cluster."""
    shards = tuple(range(keys.shards))
    return (shards,) if together else tuple((shard,) for shard in shards)


class StreamReader:
    """Reads the streams of some shards as one consumer of the group."""

    def __init__(
        self, redis: Redis, keys: RedisKeys, *, consumer: str, shards: Sequence[int]
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._consumer = consumer
        self.shards = tuple(shards)
        self._shard_of = {keys.stream(shard).encode(): shard for shard in shards}

    async def ensure_groups(self) -> None:
        """Make the streams and their group where they are missing; reads from the very first."""
        for stream in self._shard_of:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):  # it is there already
                    raise

    async def read_new(self, *, block_ms: int) -> list[Entry]:
        """Entries nobody has read yet; waits for the first one, at most `block_ms`."""
        return await self._read(dict.fromkeys(self._shard_of, ">"), block_ms=block_ms)

    async def read_own(self, after: Mapping[int, str]) -> list[Entry]:
        """Entries this consumer was given and never acknowledged, after these ids by shard."""
        cursors = {stream: after.get(shard, "0") for stream, shard in self._shard_of.items()}
        return await self._read(cursors, block_ms=None)

    async def claim_idle(self, *, idle_ms: int) -> list[Entry]:
        """Take over what another consumer was given and has not settled for `idle_ms`."""
        claimed: list[Entry] = []
        for stream, shard in self._shard_of.items():
            # since 7.0 there is a third item, the ids of entries that were deleted meanwhile;
            # before, such an entry stands among the found ones without an id
            _, found, *deleted = await self._redis.xautoclaim(
                stream, GROUP, self._consumer, idle_ms, "0-0", count=BATCH_MAX
            )
            claimed += [
                make_entry(shard, stream_id, fields)
                for stream_id, fields in found
                if stream_id is not None
            ]
            claimed += [make_entry(shard, gone, None) for gone in (deleted[0] if deleted else ())]
        return claimed

    async def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Tell the group that these are in the ledger. Only after the commit."""
        ids: dict[int, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.shard, []).append(entry.stream_id)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for shard, stream_ids in ids.items():
                pipeline.xack(self._keys.stream(shard), GROUP, *stream_ids)
            await pipeline.execute()

    async def confirm(self, confirmed: Mapping[str, str]) -> None:
        """Publish by proxy id which spool sequences the ledger has, as ranges."""
        if confirmed:
            fields: dict[Any, Any] = dict(confirmed)
            await self._redis.hset(self._keys.confirmed, mapping=fields)

    async def pending(self) -> int:
        """How many entries of these shards are not settled yet, by whomever."""
        return sum([await _pending_of(self._redis, stream.decode()) for stream in self._shard_of])

    async def trim(self, settled: Mapping[int, tuple[int, int]], *, keep_ms: int) -> int:
        """Drop entries that are settled and older than `keep_ms`; how many were dropped.

        `settled` is the ledger's watermark by shard. Redis' own clock counts.
        """
        seconds, _ = await self._redis.time()
        recent = (seconds * 1_000 - keep_ms, 0)
        dropped = 0
        for stream, shard in self._shard_of.items():
            bound = min(recent, settled.get(shard, (0, 0)), await self._unsettled(stream))
            if bound > (0, 0):
                minimum = f"{bound[0]}-{bound[1]}"
                dropped += await self._redis.xtrim(stream, minid=minimum, approximate=False)
        return dropped

    async def _unsettled(self, stream: bytes) -> tuple[int, int]:
        """A position at or before everything unread or unacknowledged.

        The last delivered id is asked first: what is delivered afterwards lies behind it.
        """
        delivered = (0, 0)
        for group in await self._redis.xinfo_groups(stream):
            if _text(group["name"]) == GROUP:
                delivered = _position(group["last-delivered-id"])
        oldest = (await self._redis.xpending(stream, GROUP))["min"]
        return delivered if oldest is None else min(delivered, _position(oldest))

    async def _read(self, cursors: Mapping[bytes, str], *, block_ms: int | None) -> list[Entry]:
        streams: dict[Any, Any] = dict(cursors)
        answer: Any = await self._redis.xreadgroup(
            GROUP, self._consumer, streams, count=BATCH_MAX, block=block_ms
        )
        return [
            make_entry(self._shard_of[stream], stream_id, fields)
            for stream, entries in answer
            for stream_id, fields in entries
        ]


async def stream_pending(redis: Redis, keys: RedisKeys) -> int:
    """How many entries of all streams are not settled yet: unread ones and unacknowledged ones."""
    return sum([await _pending_of(redis, keys.stream(shard)) for shard in range(keys.shards)])


async def price_body(redis: Redis, keys: RedisKeys, version: str) -> bytes | None:
    """The published canonical body of a price version, or None."""
    body: Any = await redis.get(keys.prices(version))
    return None if body is None else bytes(body)


async def _pending_of(redis: Redis, stream: str) -> int:
    if not await redis.exists(stream):
        return 0
    for group in await redis.xinfo_groups(stream):
        if _text(group["name"]) == GROUP:
            lag = group.get("lag")
            if lag is None:  # Redis 6.2 does not say, and 7 not after some deletions
                lag = await _count_after(redis, stream, _text(group["last-delivered-id"]))
            return int(group["pending"]) + int(lag)
    return int(await redis.xlen(stream))


async def _count_after(redis: Redis, stream: str, last: str) -> int:
    count = 0
    while True:
        page: Any = await redis.xrange(stream, min=f"({last}", count=1_000)
        if not page:
            return count
        count += len(page)
        last = _text(page[-1][0])


def make_entry(shard: int, stream_id: bytes, fields: Mapping[bytes, bytes] | None) -> Entry:
    """An entry as read; an entry that Redis no longer has comes without fields."""
    if not fields:
        return Entry(shard, _text(stream_id), None, "")
    digest = fields.get(b"h", b"").decode(errors="replace")
    return Entry(shard, _text(stream_id), fields.get(b"e", b""), digest)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _position(stream_id: bytes | str) -> tuple[int, int]:
    ms, _, n = _text(stream_id).partition("-")
    return int(ms), int(n)
