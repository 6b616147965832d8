"""What a stop cuts: it is settled, and what a client's key stands for is noted, before the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from cache_samples import keeping
from fixtures_door import KEY, OpenDoor, held
from fixtures_upstream import Act, ScriptedUpstream, chunk, delta, stream_head

from metering.memory_replies import MemoryReplies
from metering.replies import Bounds, Claimed, ClaimState, Reply, RequestClaim
from proxy.draining import drain
from proxy.services import Services


class Slow(MemoryReplies):
    """Takes half a second to note that a request was answered, as a Redis under load does."""

    last: RequestClaim | None = None

    async def claim(self, claim: RequestClaim) -> Claimed:
        self.last = claim
        return await super().claim(claim)

    async def end(
        self, claim: RequestClaim, reply: Reply | None, *, ttl_ms: int, bounds: Bounds
    ) -> bool:
        await asyncio.sleep(0.5)
        return await super().end(claim, reply, ttl_ms=ttl_ms, bounds=bounds)


async def test_a_stream_that_a_stop_cuts_leaves_no_claim(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What had come is billed, so who sends its key again is told that it ran, at once: it neither
    waits for a process that is gone, nor runs a second time once the claim has lapsed."""
    replies = Slow()
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), Act.HANG]]
    door = await open_door(keeping(upstream.url), replies=replies)
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    named = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "a"}
    answer = await door.http.post(f"{door.url}/v1/chat/completions", json=asked, headers=named)
    await answer.content.readany()
    services: Any = SimpleNamespace(door=door.door, renewals=door.renewals)

    await drain(door.runner, cast("Services", services), drain_s=0.0, hurry=asyncio.Event())

    assert replies.last is not None
    assert (await replies.claim(replies.last)).state is ClaimState.DONE
    assert [event.units.get("output_text", 0) > 0 for event in door.events] == [True]
    assert held(door) == []
    answer.close()
