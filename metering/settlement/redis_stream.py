"""The streams of usage events, as their one consumer group sees them.

Shell: reads, claims, acknowledges, trims; decides nothing. What is acknowledged was committed
before, and trimming stays behind everything that is unread, unsettled, or recent.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from metering.fullness import Memory, count_unread, fullest
from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.entries import Entry, Malformed
from metering.settlement.redis_client import servers

BATCH_MAX = 256
"""Entries per stream and read: a transaction may hold those of several streams."""

KEEP_MS = 3_600_000
"""Settled entries stay this long, for live dashboards and for rebuilding windows."""

DEAD_KEPT = 1_000
"""Dead letters that stay in a shard's stream of them; the ledger keeps all."""

_BEYOND = "18446744073709551615-18446744073709551614"
"""An id after which there can be no entry."""


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
        # Two workers that began with the same shard would wait for each other's locks on and on.
        first = zlib.crc32(consumer.encode()) % max(len(self.shards), 1)
        turned = self.shards[first:] + self.shards[:first]
        self._shard_of = {keys.stream(shard).encode(): shard for shard in turned}

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

    async def claim_idle(self, *, idle_ms: int) -> AsyncIterator[list[Entry]]:
        """Take over what another consumer was given and has not settled for `idle_ms`, by pages."""
        for stream, shard in self._shard_of.items():
            cursor: Any = "0-0"
            while True:
                # since 7.0 there is a third item, the ids of entries that were deleted meanwhile;
                # before, such an entry stands among the found ones without an id, and is ours now
                cursor, found, *deleted = await self._redis.xautoclaim(
                    stream, GROUP, self._consumer, idle_ms, cursor, count=BATCH_MAX
                )
                page = [make_entry(shard, at, fields) for at, fields in found if at is not None]
                page += [make_entry(shard, gone, None) for gone in (deleted[0] if deleted else ())]
                if any(at is None for at, _ in found):
                    page += await self._vanished(stream)
                if page:
                    yield page
                if _text(cursor) == "0-0":
                    break

    async def deliveries(self, entries: Iterable[Entry]) -> dict[tuple[int, str], int]:
        """How often these were given to a consumer; only what is still pending is known."""
        wanted = list(entries)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for entry in wanted:
                stream, at = self._keys.stream(entry.shard), entry.stream_id
                pipeline.xpending_range(stream, GROUP, min=at, max=at, count=1)
            answers = await pipeline.execute()
        return {
            entry.place: int(found[0]["times_delivered"])
            for entry, found in zip(wanted, answers, strict=True)
            if found
        }

    async def tries(self, entries: Iterable[Entry]) -> dict[tuple[int, str], int]:
        """How often a worker began to settle each of these and did not live to see the end."""
        found: dict[tuple[int, str], int] = {}
        for shard, ids in _by_shard(entries).items():
            counts = await self._redis.hmget(self._keys.tries(shard), ids)
            found |= {(shard, at): int(n) for at, n in zip(ids, counts, strict=True) if n}
        return found

    async def begin_tries(self, entries: Iterable[Entry]) -> None:
        """Note that these are being settled, so that a death in the middle shows."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for entry in entries:
                pipeline.hincrby(self._keys.tries(entry.shard), entry.stream_id, 1)
            await pipeline.execute()

    async def end_tries(self, entries: Iterable[Entry]) -> None:
        """Whatever came of it, the worker is alive."""
        for shard, ids in _by_shard(entries).items():
            await self._redis.hdel(self._keys.tries(shard), *ids)

    async def prune_tries(self) -> int:
        """Drop the tries of what is settled; how many. A worker that dies after it has acknowledged
        leaves them, and nobody is given those entries again who could take them back."""
        dropped = 0
        for stream, shard in self._shard_of.items():
            name = self._keys.tries(shard)
            if not await self._redis.exists(name):
                continue
            before, pending = await _standing(self._redis, stream, GROUP)
            found: Any = self._redis.hscan_iter(name, count=1_000)
            done = [
                at
                async for at, _ in found
                if _position(at) < before or (not pending and _position(at) == before)
            ]
            for start in range(0, len(done), 1_000):
                dropped += int(await self._redis.hdel(name, *done[start : start + 1_000]))
        return dropped

    async def bury(self, dead: Iterable[Malformed]) -> None:
        """Put dead letters into the shard's stream of them and acknowledge them, in one step each.

        Only after they are in the ledger, which keeps them; the stream is for whoever watches.
        """
        script = _script("bury")
        for one in dead:
            entry = one.entry
            fields: list[str | bytes] = []
            if entry.body is not None:
                fields += ["id", entry.stream_id, "reason", one.reason]
                fields += ["deliveries", str(one.deliveries), "e", entry.body, "h", entry.digest]
            await self._redis.eval(
                script,
                2,
                self._keys.stream(entry.shard),
                self._keys.dead(entry.shard),
                GROUP,
                entry.stream_id,
                str(DEAD_KEPT),
                *fields,
            )

    async def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Tell the group that these are in the ledger. Only after the commit."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for shard, stream_ids in _by_shard(entries).items():
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

    async def speak(self) -> None:
        """Say that this consumer is alive.

        A Redis before 7.2 counts it as silent from its last entry on, however often it has asked
        for more since. What it was given after the end of all ids is nothing, and asking that
        counts everywhere.
        """
        if self.shards:
            await self._read({self._keys.stream(self.shards[0]).encode(): _BEYOND}, block_ms=None)

    async def retire_consumers(self, *, idle_ms: int) -> list[str]:
        """Remove consumers of the group that are gone and owe nothing; their names.

        In a script, because removing one that was given something meanwhile would lose it.
        """
        script = _script("retire")
        retired: set[str] = set()
        for stream in self._shard_of:
            names: Any = await self._redis.eval(
                script, 1, stream, GROUP, self._consumer, str(idle_ms)
            )
            retired |= {_text(name) for name in names}
        return sorted(retired)

    async def settled_before_ms(self, shard: int) -> int | None:
        """The time before which everything in the shard's stream is acknowledged; None: all is."""
        stream = self._keys.stream(shard).encode()
        newest = _position((await self._redis.xinfo_stream(stream))["last-generated-id"])
        unsettled, pending = await _standing(self._redis, stream, GROUP)
        return None if unsettled >= newest and not pending else unsettled[0]

    async def _unsettled(self, stream: bytes) -> tuple[int, int]:
        """A position at or before what any group of the stream has not read or acknowledged."""
        positions = [
            (await _standing(self._redis, stream, _text(group["name"])))[0]
            for group in await self._redis.xinfo_groups(stream)
        ]
        return min(positions, default=(0, 0))

    async def _vanished(self, stream: bytes) -> list[Entry]:
        """What this consumer was given of a stream and the stream no longer has."""
        gone: list[Entry] = []
        after = "0"
        while page := await self._read({stream: after}, block_ms=None):
            gone += [entry for entry in page if entry.body is None]
            after = page[-1].stream_id
        return gone

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


async def _standing(redis: Redis, stream: bytes, group: str) -> tuple[tuple[int, int], int]:
    """A position at or before everything unread or unacknowledged of a group, and how many pend.

    The last delivered id is asked first: what is delivered afterwards lies behind it.
    """
    delivered = (0, 0)
    for each in await redis.xinfo_groups(stream):
        if _text(each["name"]) == group:
            delivered = _position(each["last-delivered-id"])
    summary = await redis.xpending(stream, group)
    oldest, pending = summary["min"], int(summary["pending"])
    return (delivered if oldest is None else min(delivered, _position(oldest))), pending


async def stream_pending(redis: Redis, keys: RedisKeys) -> int:
    """How many entries of all streams are not settled yet: unread ones and unacknowledged ones."""
    return sum([await _pending_of(redis, keys.stream(shard)) for shard in range(keys.shards)])


@dataclass(frozen=True, slots=True)
class StreamStanding:
    """How far a shard's stream is settled: the id given last, what waits, since when (Unix ms)."""

    newest: str = "0-0"
    waiting: int = 0
    since_ms: int | None = None


async def stream_standings(redis: Redis, keys: RedisKeys) -> list[StreamStanding]:
    """How far the streams are settled, by shard."""
    return [await _stream_standing(redis, keys.stream(shard)) for shard in range(keys.shards)]


async def _stream_standing(redis: Redis, stream: str) -> StreamStanding:
    if not await redis.exists(stream):
        return StreamStanding()
    newest = _text((await redis.xinfo_stream(stream))["last-generated-id"])
    waiting = await _pending_of(redis, stream)
    if not waiting:
        return StreamStanding(newest)
    after, oldest = "0-0", []
    for group in await redis.xinfo_groups(stream):
        if _text(group["name"]) == GROUP:
            after = _text(group["last-delivered-id"])
            if (pending := (await redis.xpending(stream, GROUP))["min"]) is not None:
                oldest.append(_position(pending))
    unread: Any = await redis.xrange(stream, min=f"({after}", count=1)
    oldest += [_position(at) for at, _ in unread]
    return StreamStanding(newest, waiting, min(oldest)[0] if oldest else None)


async def unsettled_entries(redis: Redis, keys: RedisKeys) -> int:
    """`stream_pending` in one question per shard: exact on Redis 7, on 6.2 a bound (see
    `fullness.count_unread`)."""
    total = 0
    for shard in range(keys.shards):
        stream = keys.stream(shard)
        if not await redis.exists(stream):
            continue
        about, length = await redis.xinfo_stream(stream), await redis.xlen(stream)
        for group in await redis.xinfo_groups(stream):
            if _text(group["name"]) == GROUP:
                total += int(group["pending"]) + count_unread(
                    length=length,
                    lag=None if group.get("lag") is None else int(group["lag"]),
                    delivered=_text(group["last-delivered-id"]),
                    newest=_text(about["last-generated-id"]),
                )
                break
        else:
            total += length
    return total


async def read_memory(redis: Redis) -> Memory:
    """What Redis uses and may use; of several servers the one that is fullest."""
    infos = [await server.info("memory") for server in await servers(redis)]
    return fullest(Memory(int(of["used_memory"]), int(of.get("maxmemory", 0))) for of in infos)


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


def _script(name: str) -> str:
    return files("metering").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def make_entry(shard: int, stream_id: bytes, fields: Mapping[bytes, bytes] | None) -> Entry:
    """An entry as read; an entry that Redis no longer has comes without fields."""
    at = str(stream_id, "ascii")
    if not fields:
        return Entry(shard, at, None, "")
    return Entry(shard, at, fields.get(b"e", b""), str(fields.get(b"h", b""), "utf-8", "replace"))


def _by_shard(entries: Iterable[Entry]) -> dict[int, list[str]]:
    ids: dict[int, list[str]] = {}
    for entry in entries:
        ids.setdefault(entry.shard, []).append(entry.stream_id)
    return ids


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _position(stream_id: bytes | str) -> tuple[int, int]:
    ms, _, n = _text(stream_id).partition("-")
    return int(ms), int(n)
