"""T-60: requests with a key of their client's run once, whatever comes of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from cache_samples import ask, keeping
from fixtures_door import OpenDoor, held, tenant
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    streamed,
    usage_event,
)

from metering.caps import CapsUnavailableError, Denial, Reservation
from metering.memory_caps import MemoryCaps
from metering.memory_replies import MemoryReplies
from metering.replies import Claimed, RequestClaim
from proxy.cache_rules import CacheSettings
from proxy.settings import RedisSettings

KEYED = {"Idempotency-Key": "order-42"}
OFF = CacheSettings()
EVENTS = [delta("Hello"), delta(" world"), FINISH, usage_event(10, 2), DONE]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_answered_is_given_again(
    open_door: OpenDoor, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    """To the byte, for nothing; one call upstream and one charge."""
    door = await open_door(keeping(upstream.url, OFF))
    upstream.scripts = [streamed(*EVENTS) if stream else [completion()]]

    first = await ask(door, stream=stream, headers=KEYED)
    second = await ask(door, stream=stream, headers=KEYED)

    assert await first.read() == await second.read()
    assert (first.status, second.status) == (200, 200)
    assert "x-weir-idempotent-replay" not in first.headers
    assert second.headers["x-weir-idempotent-replay"] == "true"
    assert second.headers.get("x-weir-cost-usd") == first.headers.get("x-weir-cost-usd")
    assert len(upstream.received) == 1
    made, given = door.events
    assert (made.billable, given.billable) == (True, False)
    assert (given.reason_code, given.cache_status, given.admission_nano) == ("retry", "replay", 0)
    assert held(door) == []


async def test_another_request_under_the_same_key(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Is refused, whether the first one is over or not; another key is another request."""
    door = await open_door(keeping(upstream.url, OFF))
    upstream.scripts = [[Act.WAIT, completion()], [completion()]]

    first = asyncio.create_task(ask(door, headers=KEYED))
    while not upstream.received:
        await asyncio.sleep(0)
    during = await ask(door, headers=KEYED, temperature=1)
    upstream.proceed.set()
    await first
    after = await ask(door, headers=KEYED, temperature=1)
    other = await ask(door, headers={"Idempotency-Key": "order-43"}, temperature=1)

    assert (during.status, after.status, other.status) == (422, 422, 200)
    assert (await after.json())["error"]["code"] == "idempotency_mismatch"
    assert held(door) == []


async def test_fifty_at_once(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """One runs; the others are told to come again, and when."""
    door = await open_door(keeping(upstream.url, OFF))
    upstream.scripts = [[Act.WAIT, completion()]]

    asking = [asyncio.create_task(ask(door, headers=KEYED)) for _ in range(50)]
    while sum(task.done() for task in asking) < 49:
        await asyncio.sleep(0.001)
    upstream.proceed.set()
    answers = await asyncio.gather(*asking)

    refused = [answer for answer in answers if answer.status == 409]
    assert sorted(answer.status for answer in answers) == [200] + [409] * 49
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert (await refused[0].json())["error"]["code"] == "idempotency_in_flight"
    assert len(upstream.received) == 1
    assert held(door) == []


async def test_what_was_not_billed_runs_again(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An error of the upstream's, a refusal by a cap: the client's retry is a real one."""
    door = await open_door(keeping(upstream.url, OFF, who=tenant("0.02")))
    upstream.scripts = [[body({"error": {"message": "no", "type": "x"}}, 500)], [completion()]]

    failed = await ask(door, headers=KEYED)
    served = await ask(door, headers=KEYED)
    dear = {"Idempotency-Key": "dear", "x-weir-no-clamp": "1"}
    refused = [await ask(door, headers=dear, max_tokens=10_000) for _ in range(2)]

    assert (failed.status, served.status) == (500, 200)
    assert [answer.status for answer in refused] == [400, 400]


async def test_a_broken_stream_is_given_as_it_was(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It was billed, so it does not run again under this key."""
    door = await open_door(keeping(upstream.url, OFF))
    upstream.scripts = [[*streamed(delta("Hello"))[:-1], Act.CLOSE]]

    first = await ask(door, stream=True, headers=KEYED)
    second = await ask(door, stream=True, headers=KEYED)

    assert b"upstream_error" in await first.read()
    assert await first.read() == await second.read()
    assert len(upstream.received) == 1


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_client_that_left_comes_again(
    open_door: OpenDoor, upstream: ScriptedUpstream, *, cancels: bool
) -> None:
    """Its answer is read to the end for that, and billed once."""
    door = await open_door(keeping(upstream.url, OFF), cancels=cancels)
    head, first, *rest = streamed(*EVENTS)
    upstream.scripts = [[head, first, Act.WAIT, *rest]]

    leaving = await door.http.post(
        f"{door.url}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        headers={"Authorization": "Bearer sk-weir-acme-0123456789", **KEYED},
    )
    await leaving.content.readany()
    leaving.close()
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0.001)
    answer = await ask(door, stream=True, headers=KEYED)

    assert await answer.read() == b"".join([*EVENTS[:3], DONE])
    assert len(upstream.received) == 1


async def test_an_answer_that_is_too_long_does_not_run_again(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It is known that it was answered, and said so."""
    door = await open_door(keeping(upstream.url, replace(OFF, repeat_entry_bytes=1024)))
    upstream.scripts = [[completion("x" * 2000)]]

    await ask(door, headers=KEYED)
    second = await ask(door, headers=KEYED)

    assert second.status == 409
    assert (await second.json())["error"]["code"] == "idempotency_not_replayable"
    assert second.headers["x-should-retry"] == "false"
    assert len(upstream.received) == 1


async def test_a_key_is_forgotten(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """After `metering.idempotency_window_hours` it is new."""
    now_ms = 1_000_000
    door = await open_door(keeping(upstream.url, OFF))
    replies = door.door.replies
    assert isinstance(replies, MemoryReplies)
    replies.now_ms = lambda: now_ms
    upstream.scripts = [[completion()]]

    await ask(door, headers=KEYED)
    now_ms += 25 * 3_600_000
    await ask(door, headers=KEYED)

    assert len(upstream.received) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb"])
async def test_a_key_that_is_none(
    open_door: OpenDoor, upstream: ScriptedUpstream, key: str
) -> None:
    """Is refused by its name, and not overlooked."""
    door = await open_door(keeping(upstream.url, OFF))

    answer = await ask(door, headers={"Idempotency-Key": key})

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == "Idempotency-Key"


class Away(MemoryReplies):
    """A store that cannot be asked."""

    async def claim(self, claim: RequestClaim) -> Claimed:
        raise CapsUnavailableError("away")


@pytest.mark.parametrize(("on_outage", "status"), [("closed", 503), ("local", 200), ("open", 200)])
async def test_while_nobody_knows(
    open_door: OpenDoor, upstream: ScriptedUpstream, on_outage: str, status: int
) -> None:
    """With Redis away a request with a key is refused where nothing may pass unchecked."""
    redis = RedisSettings(on_outage=on_outage)  # type: ignore[arg-type]
    configured = replace(keeping(upstream.url, OFF), redis=redis)
    door = await open_door(configured, replies=Away())
    upstream.scripts = [[completion()]]

    answer = await ask(door, headers=KEYED)

    assert answer.status == status
    assert held(door) == []


async def test_a_hit_is_given_again_as_well(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A request with a key that the cache has answered is answered for."""
    door = await open_door(keeping(upstream.url, CacheSettings(enabled=True)))
    upstream.scripts = [[completion()]]

    await ask(door)
    hit = await ask(door, headers=KEYED)
    again = await ask(door, headers={**KEYED, "Cache-Control": "no-cache"})

    assert hit.headers["x-weir-cache"] == "hit"
    assert again.headers["x-weir-idempotent-replay"] == "true"
    assert len(upstream.received) == 1


async def test_nothing_stays_held_where_a_claim_fails(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The caps answer later than the store fails: what they have held is given back."""
    gate = asyncio.Event()

    class SlowCaps(MemoryCaps):
        async def reserve(self, *args: Any, **more: Any) -> Reservation | Denial:
            await gate.wait()
            return await super().reserve(*args, **more)

    redis = RedisSettings(on_outage="closed")
    configured = replace(keeping(upstream.url, OFF), redis=redis)
    door = await open_door(configured, SlowCaps(), replies=Away())

    asking = asyncio.create_task(ask(door, headers=KEYED))
    await asyncio.sleep(0.05)
    gate.set()
    answer = await asking
    while held(door):
        await asyncio.sleep(0)

    assert answer.status == 503
    assert len(door.renewals) == 0
