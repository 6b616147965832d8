"""The flags of a review item, in a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from fixtures_redis import RedisServer
from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.reviews import Item
from metering.settlement.redis_client import connect
from metering.settlement.review_flags import carry_out, lost_flags
from metering.settlement.velocity import Cause, Finding
from metering.tolerances import Mode, Step

ITEM = Item(
    id=12,
    shard=3,
    tenant="acme",
    api_key_id="",
    mode=Mode.ENFORCE,
    since_min=1,
    finding=Finding(Cause.SPEND, 9, 1, 2, "recent"),
    created_at=1,
    steps={},
    decisions=(),
)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(f"unix://{redis_server.path}")
    yield client
    await client.aclose()


async def _do(redis: Redis, keys: RedisKeys, step: Step, item: Item = ITEM) -> bool:
    return await carry_out(redis, keys, item, step, stage=2, now_ms=5)


@pytest.mark.parametrize(
    ("key", "field"), [("", b"paused"), ("k1", b"paused:key/k1")], ids=["tenant", "key"]
)
async def test_a_pause_says_by_whom_and_why(
    redis: Redis, redis_keys: RedisKeys, key: str, field: bytes
) -> None:
    """Set once, lifted once, and nothing is left."""
    item = replace(ITEM, api_key_id=key)
    state = redis_keys.state("acme")
    assert await _do(redis, redis_keys, Step.PAUSE_SET, item)
    again = carry_out(redis, redis_keys, item, Step.PAUSE_SET, stage=2, now_ms=6)
    assert not await again  # as after a crash, later

    assert orjson.loads(await redis.hget(state, field)) == {
        "by": "anomaly",
        "why": "review item 12",
        "at_ms": 5,
    }
    assert await _do(redis, redis_keys, Step.PAUSE_LIFTED, item)
    assert not await _do(redis, redis_keys, Step.PAUSE_LIFTED, item)
    assert await redis.exists(state) == 0


async def test_items_whose_numbers_begin_alike_are_told_apart(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    """Item 1 does not lift what item 12 has set."""
    await _do(redis, redis_keys, Step.PAUSE_SET)

    assert not await _do(redis, redis_keys, Step.PAUSE_LIFTED, replace(ITEM, id=1))
    assert await redis.hexists(redis_keys.state("acme"), "paused")


@pytest.mark.parametrize(
    ("standing", "then"), [(None, b"2"), (b"0", b"2"), (b"1", b"2"), (b"2", b"2"), (b"3", b"3")]
)
async def test_a_stage_is_never_lowered_by_an_alarm(
    redis: Redis, redis_keys: RedisKeys, standing: bytes | None, then: bytes
) -> None:
    """A person may have set a higher one."""
    state = redis_keys.state("acme")
    if standing is not None:
        await redis.hset(state, "stage_min", standing)
    await _do(redis, redis_keys, Step.DEGRADE_SET)

    assert await redis.hget(state, "stage_min") == then
    await _do(redis, redis_keys, Step.DEGRADE_LIFTED)
    assert await redis.hget(state, "stage_min") == (
        None if standing in {None, b"0", b"1"} else then
    )


async def test_a_flag_that_is_off_can_be_set(redis: Redis, redis_keys: RedisKeys) -> None:
    """`0` is as good as nothing."""
    await redis.hset(redis_keys.state("acme"), "paused", "0")

    assert await _do(redis, redis_keys, Step.PAUSE_SET)


async def test_what_redis_forgot_is_known_from_the_note(
    redis: Redis, redis_keys: RedisKeys
) -> None:
    """A flag without its note was taken away by a person, and is not missed."""
    item = replace(ITEM, steps={Step.PAUSE: 1, Step.PAUSE_SET: 1})
    assert await lost_flags(redis, redis_keys, item) == [Step.PAUSE_SET]

    await _do(redis, redis_keys, Step.PAUSE_SET)
    await redis.hdel(redis_keys.state("acme"), "paused")
    assert await lost_flags(redis, redis_keys, item) == []
    lifted = replace(item, steps={**item.steps, Step.PAUSE_LIFTED: 1})
    assert await lost_flags(redis, redis_keys, lifted) == []
    assert await lost_flags(redis, redis_keys, ITEM) == []
