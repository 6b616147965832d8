"""The streams as the group sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.redis_client import connect
from metering.settlement.redis_stream import StreamReader, lanes, stream_pending


@pytest.fixture(params=["redis_server", "redis_62_server"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """The server of this machine, and the oldest one we support."""
    server: RedisServer = request.getfixturevalue(request.param)
    client = connect(f"unix://{server.path}")
    yield client
    await client.aclose()


def _reader(redis: Redis, keys: RedisKeys, consumer: str = "w1") -> StreamReader:
    return StreamReader(redis, keys, consumer=consumer, shards=range(keys.shards))


async def _add(redis: Redis, keys: RedisKeys, count: int, *, shard: int = 0) -> None:
    for number in range(1, count + 1):
        await redis.xadd(keys.stream(shard), {"e": b"x", "h": "y"}, id=f"{number}-0")


async def test_pending_is_what_is_unread_and_what_is_unacknowledged(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    assert await stream_pending(redis, redis_keys) == 0
    await _add(redis, redis_keys, 3)
    await _add(redis, redis_keys, 2, shard=5)
    assert await stream_pending(redis, redis_keys) == 5  # before there is any group

    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    await reader.ensure_groups()
    entries = await reader.read_new(block_ms=1)
    assert await stream_pending(redis, redis_keys) == 5

    await reader.acknowledge(entries[:4])
    assert await stream_pending(redis, redis_keys) == 1
    assert await reader.pending() == 1


async def test_what_was_given_and_not_acknowledged_is_given_again(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _add(redis, redis_keys, 3)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    given = await reader.read_new(block_ms=1)

    assert await reader.read_own({}) == given
    assert await reader.read_own({0: "2-0"}) == given[2:]
    assert await reader.read_new(block_ms=1) == []


async def test_a_dead_consumers_entries_are_claimed(redis: Redis, redis_keys: RedisKeys) -> None:
    await _add(redis, redis_keys, 2)
    dead, alive = (_reader(redis, redis_keys, name) for name in ("w1", "w2"))
    await dead.ensure_groups()
    given = await dead.read_new(block_ms=1)

    assert await alive.claim_idle(idle_ms=60_000) == []
    assert await alive.claim_idle(idle_ms=0) == given


async def test_trimming_never_drops_what_is_unread_unsettled_or_recent(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _add(redis, redis_keys, 6)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    entries = await reader.read_new(block_ms=1)
    await redis.xadd(redis_keys.stream(0), {"e": b"x", "h": "y"}, id="7-0")
    await reader.acknowledge([*entries[:2], *entries[3:]])

    async def left() -> list[bytes]:
        return [stream_id for stream_id, _ in await redis.xrange(redis_keys.stream(0))]

    assert await reader.trim({}, keep_ms=0) == 0  # the ledger has nothing
    assert await reader.trim({0: (9, 0)}, keep_ms=2**50) == 0  # all is recent
    assert await reader.trim({0: (2, 0)}, keep_ms=0) == 1  # behind the watermark
    assert await reader.trim({0: (9, 0)}, keep_ms=0) == 1
    assert (await left())[0] == b"3-0"  # unacknowledged

    await reader.acknowledge(entries)
    await reader.trim({0: (9, 0)}, keep_ms=0)
    assert await left() == [b"6-0", b"7-0"]  # 7 was never read
    assert (await redis.xpending(redis_keys.stream(0), GROUP))["pending"] == 0


async def test_an_entry_that_vanished_comes_without_a_body(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _add(redis, redis_keys, 1)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    await reader.read_new(block_ms=1)
    await redis.xtrim(redis_keys.stream(0), maxlen=0)

    assert [entry.body for entry in await reader.read_own({})] == [None]
    claimed = [entry.body for entry in await reader.claim_idle(idle_ms=0)]
    version = (await redis.info("server"))["redis_version"]
    assert claimed == ([] if version.startswith("6.") else [None])  # 6.2 does not say which it was


async def test_confirmed_sequences_are_published_by_proxy(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _reader(redis, redis_keys).confirm({"p1": "1-3,5-41"})

    assert await redis.hgetall(redis_keys.confirmed) == {b"p1": b"1-3,5-41"}


def test_shards_are_read_together_or_each_alone() -> None:
    keys = RedisKeys(shards=3)

    assert lanes(keys, together=True) == ((0, 1, 2),)
    assert lanes(keys, together=False) == ((0,), (1,), (2,))
