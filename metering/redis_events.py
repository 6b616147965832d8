"""What stands beside the events in Redis: price books, epochs, the backlog and the memory.

The events themselves are appended by `lua/commit.lua`, in one step with the caps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metering.fullness import Memory, count_unread, fullest
from metering.redis_keys import GROUP, RedisKeys
from metering.redis_wire import RedisReplyError
from metering.scripts import ScriptRunner
from metering.seq_ranges import SeqRanges


class PriceConflictError(Exception):
    """A version names one body, and Redis has another under it."""


async def data_id(runner: ScriptRunner, keys: RedisKeys, *, fresh: str) -> str:
    """The name of the data in Redis, `fresh` where it has none: another one after it was emptied.

    Whoever kept the name knows by it that what Redis had is gone.
    """
    found = await runner.call("HGET", keys.meta, "data")
    if found is None:
        await runner.call("HSETNX", keys.meta, "data", fresh)
        found = await runner.call("HGET", keys.meta, "data")
    return "" if found is None else str(found.decode())


async def read_confirmed(runner: ScriptRunner, keys: RedisKeys, proxy_id: str) -> SeqRanges:
    """Which records of that proxy's spool the worker says are in the ledger."""
    found = await runner.call("HGET", keys.confirmed, proxy_id)
    return SeqRanges() if found is None else SeqRanges.parse(found.decode())


@dataclass(frozen=True, slots=True)
class Backlog:
    """The stream of one shard: entries kept; of these delivered but not acknowledged; and unread.

    Settled entries stay for a while, so `length` says nothing about how far the worker is behind.
    """

    length: int = 0
    pending: int = 0
    unread: int = 0

    @property
    def unsettled(self) -> int:
        """How many entries the ledger does not have yet."""
        return self.pending + self.unread


async def publish_prices(
    runner: ScriptRunner, keys: RedisKeys, bodies: Mapping[str, bytes]
) -> None:
    """Put every body (version -> canonical text) where the worker looks for it; once is enough.

    Called before a book is used, so that no event names a version the worker cannot find.
    """
    for version, body in bodies.items():
        key = keys.prices(version)
        if await runner.call("SET", key, body, "NX") is not None:
            continue
        if await runner.call("GET", key) != body:
            raise PriceConflictError(f"{key} in Redis differs from the price book of that version")


async def read_prices(runner: ScriptRunner, keys: RedisKeys, version: str) -> bytes | None:
    """The body of that version, or None while nobody published it."""
    body: bytes | None = await runner.call("GET", keys.prices(version))
    return body


async def mark_epoch(runner: ScriptRunner, keys: RedisKeys, shard: int, *, now_ms: int) -> bool:
    """Say that the shard's windows are whole, so that its tenants are admitted.

    Called after they were rebuilt from the ledger, or when the ledger knows of no usage.
    False when it was marked before.
    """
    return await runner.call("SET", keys.epoch(shard), now_ms, "NX") is not None


async def is_rebuilt(runner: ScriptRunner, keys: RedisKeys, shard: int) -> bool:
    """Whether the shard's windows are whole."""
    return bool(await runner.call("EXISTS", keys.epoch(shard)))


async def oldest_unsettled_ms(runner: ScriptRunner, keys: RedisKeys, shard: int) -> int | None:
    """When the oldest entry that is not settled came (Unix ms of Redis); None when all are.

    Trimming stays behind the group, so what follows its last delivered id is what nobody has read.
    """
    stream = keys.stream(shard)
    delivered: bytes = b"-"
    try:
        summary = await runner.call("XPENDING", stream, GROUP)
        if int(summary[0]):
            return _milliseconds(summary[1])
        for group in await runner.call("XINFO", "GROUPS", stream):
            facts = dict(zip(group[::2], group[1::2], strict=True))
            if facts[b"name"] == GROUP.encode():
                delivered = b"(" + facts[b"last-delivered-id"]
    except RedisReplyError as error:
        if error.code != "NOGROUP":  # no worker has been here yet
            raise
    unread = await runner.call("XRANGE", stream, delivered, "+", "COUNT", 1)
    return _milliseconds(unread[0][0]) if unread else None


def _milliseconds(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0])


async def backlog(runner: ScriptRunner, keys: RedisKeys, shard: int) -> Backlog:
    """How far the worker is behind on one shard; all is unread while its group is not there."""
    stream = keys.stream(shard)
    try:
        about = _pairs(await runner.call("XINFO", "STREAM", stream))
        groups = [_pairs(each) for each in await runner.call("XINFO", "GROUPS", stream)]
    except RedisReplyError as error:
        if "no such key" not in str(error):
            raise
        return Backlog()
    length = int(about["length"])
    for group in groups:
        if group["name"] == GROUP.encode():
            lag = group.get("lag")
            unread = count_unread(
                length=length,
                lag=None if lag is None else int(lag),
                delivered=group["last-delivered-id"].decode(),
                newest=about["last-generated-id"].decode(),
            )
            return Backlog(length, int(group["pending"]), unread)
    return Backlog(length, 0, length)


async def memory(runner: ScriptRunner) -> Memory:
    """What Redis uses and may use; of several servers the one that is fullest."""
    return fullest(read_memory(info) for info in await runner.call_each("INFO", "memory"))


def read_memory(info: bytes) -> Memory:
    """The numbers in the answer to INFO memory."""
    found = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return Memory(int(found["used_memory"]), int(found.get("maxmemory", 0)))


def _pairs(flat: Sequence[Any]) -> dict[str, Any]:
    return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}
