"""What an exchange holds when Redis goes away, or loses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
    chunk,
    completion,
    delta,
    stream_head,
)
from stream_samples import SLICE, TOKEN_NANO, small, tokens, words

from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Denial,
    Hold,
    HoldEndedError,
    Reservation,
    Scope,
    ScopeKind,
)
from metering.clock import monotonic_s, now_ms
from metering.events import UsageEvent, decode
from metering.flags import Flag, FlagKind, put_up, take_down
from metering.memory_caps import MemoryCaps
from metering.outage_caps import OutageCaps
from metering.outage_slices import OutagePolicy
from metering.prompt import count_prompt
from metering.redis_caps import RedisCaps
from metering.redis_events import mark_epoch
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.tokenizer import tokenizer_for


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


@pytest.mark.parametrize(("share_ppm", "more"), [(100_000, 136), (10_000, 24), (0, 0)])
async def test_a_stream_that_redis_holds_goes_on_from_the_slice(
    open_door: OpenDoor, upstream: ScriptedUpstream, share_ppm: int, more: int
) -> None:
    """Redis away, it has 64 tokens and a part of the 9.7 million nano that were left: all of its
    136 that come then, or as many as a hundredth pays for."""
    gone = GoneCaps()
    caps = OutageCaps(
        gone,
        OutagePolicy("local", share_ppm),
        is_up=lambda: True,
        is_recordable=lambda: True,
    )
    door = await open_door(small(upstream.url, cap="0.01"), caps)
    upstream.scripts = [words(200)]

    raw = await (await door.chat(stream=True)).read()

    [body] = gone.model.events
    assert raw.endswith(DONE)
    assert decode(body).units["output_text"] == 64 + more


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


class RenewedCaps(MemoryCaps):
    """A hold that is lost is placed again by a renewal just before the stream would do it."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[int] = []
        self.first: Candidate | None = None

    async def reserve(
        self, hold: Hold, candidates: Sequence[Candidate], **more: Any
    ) -> Reservation | Denial:
        self.first = self.first or candidates[0]
        return await super().reserve(hold, candidates, **more)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        try:
            answer = await super().swap(hold, candidate)
        except HoldEndedError:
            assert self.first is not None
            await super().reserve(hold, [self.first], owner="p", ttl_ms=60_000)
            raise
        self.held.append(self.model.records[hold.tenant, hold.exchange_id].vector.nano)
        return answer


async def test_a_hold_that_a_renewal_placed_first_is_grown_all_the_same(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What was placed is less than what the stream asks for: it does not take the one for the
    other, and asks for the difference at once."""
    caps = RenewedCaps()
    door = await open_door(small(upstream.url, cap="1.00"), caps)
    script = words(200)
    upstream.scripts = [[*script[:20], Act.WAIT, *script[20:]]]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    caps.model.records.clear()
    caps.model.scopes.clear()
    upstream.proceed.set()
    await answer.read()

    assert tokens(door) == 200
    assert caps.first is not None
    assert caps.held[0] == caps.first.vector.nano + SLICE * TOKEN_NANO


# -- through a real Redis ----------------------------------------------------------------------


@pytest.fixture
async def redis_caps(redis_link: RedisLink, redis_keys: RedisKeys) -> RedisCaps:
    """Caps in Redis, of a tenant whose windows are known to be whole."""
    await mark_epoch(redis_link, redis_keys, redis_keys.shard("acme"), now_ms=now_ms())
    return RedisCaps(redis_link, redis_keys)


async def recorded(link: RedisLink, keys: RedisKeys, count: int) -> list[UsageEvent]:
    """The events in the stream, once there are so many."""
    while True:
        entries = await link.call("XRANGE", keys.stream(keys.shard("acme")), "-", "+")
        if len(entries) >= count:
            return [decode(body) for _, fields in entries for body in fields if body[:1] == b"{"]
        await asyncio.sleep(0)


async def test_streams_share_what_is_left(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    redis_caps: RedisCaps,
    redis_link: RedisLink,
    redis_keys: RedisKeys,
) -> None:
    """Eight streams at the edge of a cap take it up but for a part of a slice, and not a nano more;
    nothing is held after them."""
    door = await open_door(small(upstream.url, cap="0.01"), redis_caps)
    upstream.scripts = [words(600)]

    answers = await asyncio.gather(*(door.chat(stream=True) for _ in range(8)))
    bodies = await asyncio.gather(*(answer.read() for answer in answers))

    assert all(raw.endswith(DONE) for raw in bodies)
    events = await recorded(redis_link, redis_keys, 8)
    spent_nano = sum(event.admission_nano for event in events)
    assert 10_000_000 - SLICE * TOKEN_NANO < spent_nano <= 10_000_000
    assert {event.reason_code for event in events} == {"stopped_at_cap"}
    assert await redis_link.call("HLEN", redis_keys.holds("acme")) == 0


@pytest.mark.parametrize("kind", list(FlagKind))
async def test_a_flag_in_redis_ends_what_runs_and_refuses_what_comes(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    redis_caps: RedisCaps,
    redis_link: RedisLink,
    redis_keys: RedisKeys,
    kind: FlagKind,
) -> None:
    """Put up for one key: the stream ends at its next renewal, the next request is refused, and
    once it is taken down all is as before."""
    door = await open_door(small(upstream.url, cap="1.00"), redis_caps)
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), Act.HANG], [completion()]]
    call, scope = redis_link.call, Scope(ScopeKind.KEY, "k1")
    stream = await door.chat(stream=True)
    await stream.content.readany()

    await put_up(call, redis_keys, "acme", Flag(kind, scope, "ann", "because", 1))
    await door.renewals.turn(monotonic_s() + 10)
    raw = await stream.read()
    refused = await door.chat()
    await take_down(call, redis_keys, "acme", kind, scope)
    served = await door.chat()

    assert b"key_" + kind.encode() in raw
    assert (refused.status, served.status) == (403, 200)
    [stopped, *_] = await recorded(redis_link, redis_keys, 2)
    assert (stopped.reason_code, stopped.units["output_text"]) == ("stopped_by_flag", 1)


async def test_a_request_begins_with_what_is_left(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_caps: RedisCaps
) -> None:
    """An answer in one piece is cut to the cap, to the token."""
    door = await open_door(small(upstream.url, cap="0.001", output=1000), redis_caps)
    upstream.scripts = [[completion(prompt=9, output=5)]]

    answer = await door.chat(max_tokens=1000)

    sent = upstream.received[0].json["max_tokens"]
    assert answer.headers["x-weir-max-tokens-clamped"] == str(sent)
    assert 1_000_000 - TOKEN_NANO < 1_000 * prompt_tokens() + sent * TOKEN_NANO <= 1_000_000


def prompt_tokens() -> int:
    """Our count of the prompt, as the hold had it."""
    return count_prompt(
        tokenizer_for("up-m"), {"messages": [{"role": "user", "content": "hi"}], "model": "up-m"}
    )
