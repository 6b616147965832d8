"""What an exchange holds when Redis goes away, or loses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import (
    OpenDoor,
)
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
)
from stream_samples import small, tokens, words

from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Denial,
    Hold,
    Reservation,
)
from metering.memory_caps import MemoryCaps


class GoneCaps(MemoryCaps):
    """Redis is there for the reserve, then away for a while."""

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        raise CapsUnavailableError("gone")


@pytest.mark.parametrize(("on_outage", "delivered"), [("closed", 64), ("local", 64), ("open", 200)])
async def test_redis_away_in_mid_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream, on_outage: Any, delivered: int
) -> None:
    """`open` goes on unchecked; else the stream has what it held, and then ends softly."""
    made = small(upstream.url, cap="1.00")
    made = replace(made, redis=replace(made.redis, on_outage=on_outage))
    door = await open_door(made, GoneCaps())
    upstream.scripts = [words(200)]

    raw = await (await door.chat(stream=True)).read()

    assert raw.endswith(DONE)
    assert tokens(door) == delivered


async def test_a_hold_that_was_lost_is_placed_anew(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Redis lost its data in mid-stream: the next slice places the whole hold again."""
    caps = MemoryCaps()
    door = await open_door(small(upstream.url, cap="1.00"), caps)
    script = words(200)
    upstream.scripts = [[*script[:20], Act.WAIT, *script[20:]]]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    caps.model.records.clear()
    caps.model.scopes.clear()
    upstream.proceed.set()
    raw = await answer.read()

    assert raw.endswith(FINISH + DONE)
    assert tokens(door) == 200
