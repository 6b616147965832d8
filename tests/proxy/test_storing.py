"""Keeping stops long before Redis is full."""

from __future__ import annotations

from cache_samples import ask, keeping
from fixtures_door import OpenDoor
from fixtures_upstream import ScriptedUpstream, completion

from metering.fullness import Memory, Standing
from proxy.storing import FULL_PPM, is_full


async def test_a_full_redis_keeps_nothing_more(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """From four fifths of its memory on; requests are refused at nine tenths only."""
    door = await open_door(keeping(upstream.url))
    upstream.scripts = [[completion()]]
    door.door.lifecycle.backlog = Standing(0, Memory(FULL_PPM, 1_000_000))

    answers = [await ask(door) for _ in range(2)]

    assert is_full(door.door)
    assert [each.headers["x-weir-cache"] for each in answers] == ["miss", "miss"]

    door.door.lifecycle.backlog = Standing(0, Memory(FULL_PPM - 1, 1_000_000))
    assert not is_full(door.door)
