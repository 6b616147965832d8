"""The streams as the group sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.redis_keys import GROUP, RedisKeys
from metering.settlement.entries import Entry, Malformed
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


async def _silent_ms(redis: Redis, keys: RedisKeys) -> int:
    [found] = await redis.xinfo_consumers(keys.stream(0), GROUP)
    return int(found["idle"])


async def _claimed(reader: StreamReader, *, idle_ms: int) -> list[Entry]:
    return [entry async for page in reader.claim_idle(idle_ms=idle_ms) for entry in page]


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

    assert await _claimed(alive, idle_ms=60_000) == []
    assert await _claimed(alive, idle_ms=0) == given


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
    claimed = await _claimed(_reader(redis, redis_keys, "w2"), idle_ms=0)
    assert [(entry.stream_id, entry.body) for entry in claimed] == [("1-0", None)]


async def test_confirmed_sequences_are_published_by_proxy(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _reader(redis, redis_keys).confirm({"p1": "1-3,5-41"})

    assert await redis.hgetall(redis_keys.confirmed) == {b"p1": b"1-3,5-41"}


def test_shards_are_read_together_or_each_alone() -> None:
    keys = RedisKeys(shards=3)

    assert lanes(keys, together=True) == ((0, 1, 2),)
    assert lanes(keys, together=False) == ((0,), (1,), (2,))


async def test_claims_go_on_to_the_last_page(redis: Redis, redis_keys: RedisKeys) -> None:
    """One page per stream would leave a dead worker's batch for as many turns as it has pages."""
    await _add(redis, redis_keys, 600)
    dead, alive = (_reader(redis, redis_keys, name) for name in ("w1", "w2"))
    await dead.ensure_groups()
    while await dead.read_new(block_ms=1):
        pass

    assert len(await _claimed(alive, idle_ms=0)) == 600


async def test_trimming_stays_behind_every_group(redis: Redis, redis_keys: RedisKeys) -> None:
    """Another group (an export, say) has read two of four and owes one of these."""
    await _add(redis, redis_keys, 4)
    stream, reader = redis_keys.stream(0), _reader(redis, redis_keys)
    await reader.ensure_groups()
    await reader.acknowledge(await reader.read_new(block_ms=1))
    await redis.xgroup_create(stream, "export", id="0")

    assert await reader.trim({0: (9, 0)}, keep_ms=0) == 0  # it has read nothing
    await redis.xreadgroup("export", "e1", {stream: ">"}, count=2)
    assert await reader.trim({0: (9, 0)}, keep_ms=0) == 0  # 1-0 is not acknowledged
    await redis.xack(stream, "export", "1-0")
    assert await reader.trim({0: (9, 0)}, keep_ms=0) == 1
    assert [at for at, _ in await redis.xrange(stream)] == [b"2-0", b"3-0", b"4-0"]


async def test_consumers_that_are_gone_and_owe_nothing_are_removed(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _add(redis, redis_keys, 2)
    done, owing, here = (_reader(redis, redis_keys, name) for name in ("done", "owing", "here"))
    await done.ensure_groups()
    stream = redis_keys.stream(0)
    for name, count in (("owing", 1), ("done", 1), ("here", 1)):
        await redis.xreadgroup(GROUP, name, {stream: ">"}, count=count)
    await redis.xack(stream, GROUP, "2-0")

    assert await here.retire_consumers(idle_ms=60_000) == []
    assert await here.retire_consumers(idle_ms=0) == ["done"]
    assert [entry.stream_id for entry in await owing.read_own({})] == ["1-0"]


async def test_a_worker_with_nothing_to_do_is_known_to_live(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    """It says so without being given anything: its own entries keep their count of deliveries."""
    await _add(redis, redis_keys, 1)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    owing = await reader.read_new(block_ms=1)
    while await _silent_ms(redis, redis_keys) < 200:
        continue

    await reader.speak()

    assert await _silent_ms(redis, redis_keys) < 200
    assert await reader.deliveries(owing) == {(0, "1-0"): 1}


async def test_what_is_settled_is_known_by_its_time(redis: Redis, redis_keys: RedisKeys) -> None:
    await _add(redis, redis_keys, 3)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()

    assert await reader.settled_before_ms(0) == 0
    entries = await reader.read_new(block_ms=1)
    await reader.acknowledge([entries[0]])
    assert await reader.settled_before_ms(0) == 2
    await reader.acknowledge(entries)
    assert await reader.settled_before_ms(0) is None
    assert await reader.settled_before_ms(1) is None  # nothing was ever there


async def test_a_dead_letter_is_put_aside_and_acknowledged_in_one_step(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    await _add(redis, redis_keys, 1)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    entries = await reader.read_new(block_ms=1)
    assert await reader.deliveries(entries) == {(0, "1-0"): 1}

    await reader.bury([Malformed(entries[0], "no event", deliveries=3)])

    [(_, fields)] = await redis.xrange(redis_keys.dead(0))
    assert fields == {
        b"id": b"1-0",
        b"reason": b"no event",
        b"deliveries": b"3",
        b"e": b"x",
        b"h": b"y",
    }
    assert await reader.pending() == 0
    assert await reader.deliveries(entries) == {}


async def test_only_tries_that_nobody_ended_count(redis: Redis, redis_keys: RedisKeys) -> None:
    reader = _reader(redis, redis_keys)
    first, second = (Entry(0, f"{n}-0", b"x", "y") for n in (1, 2))
    await reader.begin_tries([first, second])
    await reader.begin_tries([first])
    await reader.end_tries([second])

    assert await reader.tries([first, second]) == {(0, "1-0"): 2}


async def test_tries_of_what_is_settled_are_forgotten(redis: Redis, redis_keys: RedisKeys) -> None:
    """A worker that died after it had acknowledged leaves them; what pends keeps its own."""
    await _add(redis, redis_keys, 3)
    reader = _reader(redis, redis_keys)
    await reader.ensure_groups()
    entries = await reader.read_new(block_ms=1)
    await reader.begin_tries(entries)
    await reader.acknowledge(entries[:1])

    first = await reader.prune_tries()
    left = await reader.tries(entries)
    await reader.acknowledge(entries[1:])
    rest = await reader.prune_tries()

    assert (first, left) == (1, {(0, "2-0"): 1, (0, "3-0"): 1})
    assert (rest, await reader.tries(entries)) == (2, {})
    assert await reader.prune_tries() == 0
