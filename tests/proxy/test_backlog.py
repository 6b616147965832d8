"""A worker that is away: the streams grow until new requests are refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fixtures_door import OpenDoor, RunningDoor, settings
from fixtures_upstream import ScriptedUpstream, completion

from metering.background import spawn
from metering.fullness import Memory, Standing
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.backlog import apply, is_full, look, watch_backlog
from proxy.settings import Metering

FREE = Memory(50, 100)


@pytest.mark.parametrize(
    ("unsettled", "memory", "was_full", "full"),
    [
        (99, FREE, False, False),
        (100, FREE, False, True),
        (80, FREE, True, True),
        (79, FREE, True, False),
        (0, Memory(90, 100), False, True),
        (0, Memory(89, 100), False, False),
        (0, Memory(85, 100), True, True),
        (0, Memory(84, 100), True, False),
        (0, Memory(10**12, 0), False, False),
    ],
)
def test_refusing_begins_at_the_mark_and_ends_below_it(
    unsettled: int, memory: Memory, was_full: bool, full: bool
) -> None:
    assert is_full(Standing(unsettled, memory), 100, was_full=was_full) is full


async def test_all_shards_count(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    for shard in (0, 3, 3):
        await redis_link.call("XADD", redis_keys.stream(shard), "*", "e", "{}")

    assert (await look(redis_link, redis_keys)).unsettled == 3


async def test_a_full_backlog_refuses_and_an_empty_one_serves_again(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    upstream.scripts = [[completion("ok")]]
    apply(door.door, Standing(10**6, FREE), was_full=False)
    refused = await door.chat()
    body = await refused.json()
    sent = len(upstream.received)
    apply(door.door, Standing(0, FREE), was_full=True)
    served = await door.chat()

    assert (refused.status, body["error"]["code"]) == (503, "backlog_full")
    assert refused.headers["Retry-After"] == "10"
    assert refused.headers["x-should-retry"] == "true"
    assert (sent, served.status) == (0, 200)
    said = [event for event, _ in door.log.lines if event.startswith("backlog")]
    assert said == ["backlog_full", "backlog_over"]


async def test_a_redis_that_is_full_is_told_as_that(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    apply(door.door, Standing(0, Memory(95, 100)), was_full=False)
    body = await (await door.chat()).json()

    assert body["error"]["code"] == "backlog_full"
    assert "hardly any memory" in body["error"]["message"]
    assert upstream.received == []


async def test_where_it_is_only_said_nothing_is_refused(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    upstream.scripts = [[completion("ok")]]
    configured = settings({"one": upstream.url})
    metering = Metering(on_backlog="alert", backlog_high_water=5)
    door = await open_door(replace(configured, metering=metering))

    for _ in range(3):
        assert apply(door.door, Standing(5, FREE), was_full=True)
    assert apply(door.door, Standing(5, FREE), was_full=False)

    assert (await door.chat()).status == 200
    assert [event for event, _ in door.log.lines].count("backlog_full") == 1


async def test_it_is_learned_in_the_background(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    redis_link: RedisLink,
    redis_keys: RedisKeys,
) -> None:
    configured = settings({"one": upstream.url})
    door = await open_door(replace(configured, metering=Metering(backlog_high_water=2)))
    for _ in range(2):
        await redis_link.call("XADD", redis_keys.stream(1), "*", "e", "{}")

    watching = spawn(watch_backlog(lambda: door.door, redis_link, redis_keys), name="watch")
    async with asyncio.timeout(5):
        while not door.door.lifecycle.is_backlogged:
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.wait([watching])

    assert (await door.chat()).status == 503
