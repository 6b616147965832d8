"""T-57, T-59, F-12 to F-15: however an exchange ends, nothing stays held and all is billed once.

A fault is put at each point at which the proxy waits for Redis or an upstream: the call fails,
fails after it was done, or comes late. Every decision comes from a seed that the test names.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings, tenant, usd
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    chunk,
    completion,
    delta,
    stream_head,
    streamed,
    usage_event,
)

from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Commit,
    Denial,
    DenialReason,
    Hold,
    Renewal,
    Reservation,
    Scope,
    ScopeKind,
    Vector,
)
from metering.events import decode
from metering.memory_caps import MemoryCaps

SCRIPTS = [
    [completion()],
    streamed(delta("Hello"), delta(" world"), FINISH, usage_event(10, 2), DONE),
    [stream_head(), chunk(delta("Hello world")), Act.CLOSE],
    [stream_head(), chunk(delta("Hello world")), Act.RESET],
    [stream_head(), chunk(b": nothing\n\n"), Act.CLOSE],
    [body({"error": {"message": "slow down"}}, 429, "Retry-After: 1\r\n")],
    [body(b"oops", 500)],
    [body({"error": {"message": "bad"}}, 400)],
    [body({"error": {"message": "key"}}, 401)],
    [Act.CLOSE],
    [b"garbage\r\n\r\n", Act.CLOSE],
]


class FaultyCaps:
    """Caps whose every call may fail, fail after it was applied, or come late; by seed."""

    def __init__(self, seed: int, rate: float = 0.25) -> None:
        self.inner = MemoryCaps()
        self.model = self.inner.model
        self._dice = random.Random(seed)
        self._rate = rate
        self.faults = 0

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        roll = self._dice.random()
        if roll < self._rate:
            self.faults += 1
            if self._dice.random() < 0.5:
                await work()
            raise CapsUnavailableError("injected")
        if roll < self._rate * 2:
            await asyncio.sleep(self._dice.random() * 0.01)
        return await work()

    async def reserve(
        self, hold: Hold, candidates: Sequence[Candidate], **options: Any
    ) -> Reservation | Denial:
        answer: Reservation | Denial = await self._call(
            lambda: self.inner.reserve(hold, candidates, **options)
        )
        return answer

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        answer: Reservation | Denial = await self._call(lambda: self.inner.swap(hold, candidate))
        return answer

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        made: Commit = await self._call(lambda: self.inner.commit(hold, actual, events))
        return made

    async def release(self, hold: Hold) -> None:
        await self._call(lambda: self.inner.release(hold))

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        return await self.inner.renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)


async def _client(door: RunningDoor, dice: random.Random, *, stream: bool = False) -> None:
    """One request that is read to its end, or left at once, or after the first bytes."""
    leaves = dice.choice([None, None, "at_once", "in_stream"])
    async with aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(
            session.post(
                f"{door.url}/v1/chat/completions",
                json={"model": "m", "messages": [], "stream": stream or dice.random() < 0.7},
                headers={"Authorization": f"Bearer {KEY}"},
            )
        )
        if leaves == "at_once":
            await asyncio.sleep(dice.random() * 0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return
        answer = await asking
        if leaves == "in_stream":
            await answer.content.readany()
            answer.close()
        else:
            raw = await answer.read()
            assert b"Traceback" not in raw
            assert answer.status in (200, 400, 403, 429, 500, 502, 503)


@pytest.mark.parametrize("seed", range(6))
async def test_t57_a_fault_at_every_wait(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """After forty exchanges under faults, nothing is held, and spend is what the events say."""
    monkeypatch.setattr("proxy.renewals.RELEASE_AGAIN_S", 0.005)
    dice = random.Random(seed)
    caps = FaultyCaps(seed)
    door = await open_door(
        settings({"one": upstream.url, "two": other_upstream.url}, timeout_s=1.0), caps
    )
    upstream.scripts = [dice.choice(SCRIPTS) for _ in range(60)]
    other_upstream.scripts = [dice.choice(SCRIPTS[:4]) for _ in range(60)]

    await asyncio.gather(*(_client(door, dice) for _ in range(40)))
    async with asyncio.timeout(5):
        while len(door.renewals) or door.renewals._unused:
            await asyncio.sleep(0.005)
    for hold, actual, events in door.spool.records:  # as the replay does, once Redis is back
        await caps.inner.commit(hold, actual, events)

    scope = caps.model.scopes["acme", Scope(ScopeKind.TENANT)]
    recorded = [decode(event) for event in caps.model.events]
    assert caps.faults > 0
    assert (scope.held, scope.holds) == (Vector(), {})
    assert len({event.event_id for event in recorded}) == len(recorded)
    spent = sum(event.admission_nano for event in recorded)
    assert sum(window.spent.nano for window in scope.windows.values()) == spent
    asked = len(upstream.received) + len(other_upstream.received)
    assert sum(event.reason_code != "not_sent" for event in recorded) >= asked
    for event in recorded:
        assert event.admission_nano >= 0
        assert event.billable or event.admission_nano == 0


@pytest.mark.parametrize("seed", range(6))
async def test_t57_streams_that_outgrow_their_holds(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Streams grow under faults, at the edge of a cap; some are left, some stopped by somebody.
    Nothing is held after them, spend is what the events say, and the cap is passed by no more than
    what is counted after the last answer of Redis: nothing."""
    monkeypatch.setattr("proxy.renewals.RELEASE_AGAIN_S", 0.005)
    dice = random.Random(seed)
    caps = FaultyCaps(seed)
    made = settings({"one": upstream.url}, who=tenant("0.02"))
    made = replace(made, default_output_tokens=32, stream_slice_tokens=16)
    door = await open_door(made, caps)
    upstream.scripts = [
        streamed(*[delta(" word")] * dice.randrange(20, 600), FINISH, DONE) for _ in range(40)
    ]

    async def stopper() -> None:
        for _ in range(10):
            await asyncio.sleep(dice.random() * 0.02)
            for each in dice.sample(door.renewals.open, len(door.renewals.open) // 8):
                if not each.is_ending:
                    each.stop(Denial(DenialReason.KILLED))

    await asyncio.gather(stopper(), *(_client(door, dice, stream=True) for _ in range(40)))
    async with asyncio.timeout(5):
        while len(door.renewals) or door.renewals._unused:
            await asyncio.sleep(0.005)
    for hold, actual, events in door.spool.records:
        await caps.inner.commit(hold, actual, events)

    scope = caps.model.scopes["acme", Scope(ScopeKind.TENANT)]
    recorded = [decode(event) for event in caps.model.events]
    spent = sum(event.admission_nano for event in recorded)
    assert caps.faults > 0
    assert (scope.held, scope.holds) == (Vector(), {})
    assert sum(window.spent.nano for window in scope.windows.values()) == spent
    assert spent <= usd("0.02")
    assert {event.reason_code for event in recorded} >= {"served", "stopped_at_cap"}


CUTS = {
    "before_a_byte": ([stream_head(), Act.HANG], 0, "cancelled"),
    "after_one_event": ([stream_head(), chunk(delta("Hello world")), Act.HANG], 2, "cancelled"),
    "after_the_finish": (
        [stream_head(), *map(chunk, [delta("Hello world"), FINISH]), Act.HANG],
        2,
        "success",
    ),
    "after_usage": (
        [stream_head(), *map(chunk, [delta("Hello world"), FINISH, usage_event(10, 9)]), Act.HANG],
        9,
        "success",
    ),
}


@pytest.mark.parametrize("name", CUTS)
async def test_t59_a_client_that_leaves_pays_for_what_was_made(
    door: RunningDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """By how far the upstream had come; the hold goes, and the upstream is stopped."""
    script, output_tokens, status = CUTS[name]
    upstream.scripts = [script]

    asking = asyncio.ensure_future(door.chat(stream=True))
    if name == "before_a_byte":
        while not upstream.received:
            await asyncio.sleep(0)
        asking.cancel()
    else:
        answer = await asking
        seen = b""
        while seen.count(b"\n\n") < (1 if name == "after_one_event" else 2):
            seen += await answer.content.readany()
        answer.close()
    await door.http.close()
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0)

    event = door.events[0]
    assert (event.status, event.units.get("output_text", 0)) == (status, output_tokens)
    assert event.admission_nano > 0
    assert event.billable


async def test_t59_a_client_that_leaves_after_done_was_served(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Closing right after `[DONE]` is no disconnect."""
    upstream.scripts = [streamed(delta("Hello world"), FINISH, usage_event(10, 2), DONE)]

    answer = await door.chat(stream=True)
    seen = b""
    while DONE not in seen:
        seen += await answer.content.readany()
    answer.close()

    assert (door.events[0].status, door.events[0].client_disconnected) == ("success", False)
    assert door.events[0].admission_nano < usd("1.00")
