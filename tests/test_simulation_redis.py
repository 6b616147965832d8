"""The Redis of the simulation against a real one: the same calls have the same answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fixtures_redis import RedisServer
from redis.exceptions import ResponseError

from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.entries import Malformed
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import StreamReader
from simulation.memory_redis import Client, MemoryRedis

KEYS = RedisKeys(prefix="twin", shards=2)
STREAMS = [KEYS.stream(shard) for shard in range(2)]


async def _both(
    server: RedisServer, said: Callable[[Any], Awaitable[list[Any]]]
) -> tuple[list[Any], list[Any]]:
    """What is answered on the real one and on ours; each begins empty."""
    real = connect(f"unix://{server.path}")
    await real.flushall()
    try:
        theirs = await said(real)
    finally:
        await real.aclose()
    return theirs, await said(Client(MemoryRedis(1_790_000_000_000), lambda _: None, lambda: False))


async def _fill(redis: Any, count: int) -> list[bytes]:
    return [
        await redis.xadd(STREAMS[n % 2], {"e": f"body {n}", "h": f"hash {n}"}) for n in range(count)
    ]


def _shapes(entries: list[Any]) -> list[Any]:
    return [(each.shard, each.body, each.digest) for each in entries]


def _of_shard_0(entries: list[Any]) -> list[Any]:
    """A reader begins with any of its shards; an id of one says nothing about another."""
    return [each for each in entries if each.shard == 0]


async def test_what_is_read_is_pending_until_it_is_acknowledged(redis_server: RedisServer) -> None:
    async def said(redis: Any) -> list[Any]:
        one = StreamReader(redis, KEYS, consumer="one", shards=(0, 1))
        other = StreamReader(redis, KEYS, consumer="other", shards=(0, 1))
        await one.ensure_groups()
        await one.ensure_groups()
        await _fill(redis, 7)
        first, nothing = await one.read_new(block_ms=1), await other.read_new(block_ms=1)
        own = await one.read_own({})
        after = await one.read_own({0: _of_shard_0(own)[0].stream_id})
        await one.acknowledge(first[:3])
        known = await one.deliveries(first)
        return [
            *map(_shapes, (first, nothing, own, after, await one.read_own({}))),
            sorted(known.values()),
            await one.pending(),
            _shapes(await other.read_own({})),
        ]

    theirs, ours = await _both(redis_server, said)

    assert ours == theirs


async def test_what_is_claimed_is_another_s(redis_server: RedisServer) -> None:
    async def said(redis: Any) -> list[Any]:
        one = StreamReader(redis, KEYS, consumer="one", shards=(0, 1))
        other = StreamReader(redis, KEYS, consumer="other", shards=(0, 1))
        await one.ensure_groups()
        await _fill(redis, 6)
        given = await one.read_new(block_ms=1)
        early = [_shapes(page) async for page in other.claim_idle(idle_ms=60_000)]
        claimed = [_shapes(page) async for page in other.claim_idle(idle_ms=0)]
        known = await other.deliveries(given)
        await redis.xtrim(STREAMS[0], minid=_of_shard_0(given)[2].stream_id, approximate=False)
        gone = [_shapes(page) async for page in one.claim_idle(idle_ms=0)]
        return [early, claimed, sorted(known.values()), gone, await one.pending()]

    theirs, ours = await _both(redis_server, said)

    assert ours == theirs


async def test_tries_the_dead_and_the_rest(redis_server: RedisServer) -> None:
    async def said(redis: Any) -> list[Any]:
        one = StreamReader(redis, KEYS, consumer="one", shards=(0, 1))
        await one.ensure_groups()
        await _fill(redis, 5)
        given = await one.read_new(block_ms=1)
        await one.begin_tries(given)
        await one.begin_tries(given[:1])
        tries = sorted((await one.tries(given)).values())
        await one.end_tries(given[1:])
        await one.bury([Malformed(given[0], "nonsense")])
        await one.bury([Malformed(given[0], "nonsense")])
        await one.confirm({"px": "1-3"})
        await one.acknowledge(given[1:])
        settled = {0: _of_shard_0(given)[-1].position, 1: (1, 0)}
        return [
            tries,
            sorted((await one.tries(given)).values()),
            await redis.xlen(KEYS.dead(0)),
            await redis.hget(KEYS.confirmed, "px"),
            await one.trim(settled, keep_ms=3_600_000),
            await one.pending(),
            [fields for _, fields in await redis.xrange(STREAMS[1], min="-")],
            await redis.exists(STREAMS[0], KEYS.confirmed, "nothing"),
        ]

    theirs, ours = await _both(redis_server, said)

    assert ours == theirs


@pytest.mark.parametrize(
    ("note", "settled", "settling"),
    [
        (None, (0, 0), (5, 0)),
        ("7-1", (7, 1), (8, 0)),
        ("7-1", (7, 2), (9, 0)),
        ("7-1", (3, 0), (4, 0)),
    ],
    ids=["first", "as noted", "went back", "behind"],
)
async def test_going_back_is_seen_alike(
    redis_server: RedisServer, note: str | None, settled: Any, settling: Any
) -> None:
    from metering.settlement.went_back import _script

    async def said(redis: Any) -> list[Any]:
        await redis.set("epoch", "1")
        if note is not None:
            await redis.set("settled", note)
        words = map(str, (*settled, *settling))
        found = await redis.eval(_script(), 2, "epoch", "settled", *words)
        return [found, await redis.get("settled"), await redis.exists("epoch")]

    theirs, ours = await _both(redis_server, said)

    assert ours == theirs


async def test_a_group_is_made_once(redis_server: RedisServer) -> None:
    async def said(redis: Any) -> list[Any]:
        await redis.xgroup_create(STREAMS[0], GROUP, id="0", mkstream=True)
        try:
            await redis.xgroup_create(STREAMS[0], GROUP, id="0", mkstream=True)
        except ResponseError as error:
            return [str(error).partition(" ")[0]]
        return []

    theirs, ours = await _both(redis_server, said)

    assert ours == theirs == ["BUSYGROUP"]
