"""Exchanges that somebody pauses or kills, through the whole proxy."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import openai
import pytest
from fixtures_door import (
    KEY,
    OpenDoor,
    RunningDoor,
    held,
    settings,
)
from fixtures_upstream import (
    Act,
    ScriptedUpstream,
    chunk,
    delta,
    stream_head,
)
from stream_samples import SLICE, objects, small, tokens, words

from metering.caps import (
    Denial,
    DenialReason,
    Hold,
    Renewal,
)
from metering.clock import monotonic_s
from metering.memory_caps import MemoryCaps
from proxy.halt import Halt


async def look(door: RunningDoor) -> None:
    """What the renewals do by themselves within some seconds."""
    await door.renewals.turn(monotonic_s() + 10.0)


def pause(door: RunningDoor, flag: str) -> None:
    assert isinstance(door.caps, MemoryCaps)
    door.caps.model.flags.setdefault("acme", set()).add(flag)


class FlaggedCaps(MemoryCaps):
    """Says at every renewal what `stop` says."""

    stop: DenialReason | None = None

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        renewal = await super().renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
        return replace(renewal, stop=self.stop)


@pytest.mark.parametrize(
    ("reason", "code"),
    [(DenialReason.KILLED, "tenant_killed"), (DenialReason.PAUSED, "tenant_paused")],
)
async def test_a_running_stream_is_stopped(
    open_door: OpenDoor, upstream: ScriptedUpstream, reason: DenialReason, code: str
) -> None:
    """Also one that hangs: it ends with the error in-band, and what was counted is billed."""
    caps = FlaggedCaps()
    door = await open_door(settings({"one": upstream.url}), caps)
    upstream.scripts = [[stream_head(), chunk(delta("Hello world")), Act.HANG]]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    caps.stop = reason
    await look(door)
    raw = await answer.read()

    [end] = objects(raw)
    assert end["error"]["code"] == code
    await upstream.left.wait()
    [found] = door.events
    assert (found.status, found.reason_code) == ("stopped", "stopped_by_flag")
    assert (found.units["output_text"], found.client_disconnected) == (2, False)
    assert held(door) == []


async def test_the_sdk_raises_what_ended_a_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The stock client raises the error in the middle of its loop, with our code."""
    caps = FlaggedCaps()
    door = await open_door(settings({"one": upstream.url}), caps)
    upstream.scripts = [[stream_head(), chunk(delta("Hello world")), Act.HANG]]
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        parts = aiter(stream)
        first = await anext(parts)
        caps.stop = DenialReason.KILLED
        await look(door)
        with pytest.raises(openai.APIError) as failure:
            await anext(parts)

    assert first.choices[0].delta.content == "Hello world"
    assert failure.value.code == "tenant_killed"
    assert len(upstream.received) == 1


async def test_a_request_that_is_not_streamed_is_stopped(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """It is refused as if it came now, and its input is billed: the upstream has read it."""
    caps = FlaggedCaps()
    door = await open_door(settings({"one": upstream.url}), caps)
    upstream.scripts = [[Act.HANG]]
    asking = asyncio.ensure_future(door.chat())
    while not upstream.received:
        await asyncio.sleep(0)

    caps.stop = DenialReason.KILLED
    await look(door)
    answer = await asking

    assert answer.status == 403
    assert (await answer.json())["error"]["code"] == "tenant_killed"
    [found] = door.events
    assert (found.reason_code, found.billable) == ("stopped_by_flag", True)
    assert found.units["input_uncached"] > 0
    assert held(door) == []


async def test_one_look_ends_all_in_the_same_scopes(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Renewing one of ten is enough to stop all ten."""
    caps = FlaggedCaps()
    door = await open_door(settings({"one": upstream.url}), caps)
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), Act.HANG]]
    answers = [await door.chat(stream=True) for _ in range(10)]
    for answer in answers:
        await answer.content.readany()

    caps.stop = DenialReason.PAUSED
    await look(door)
    bodies = [await answer.read() for answer in answers]

    assert all(b"tenant_paused" in raw for raw in bodies)
    assert {each.reason_code for each in door.events} == {"stopped_by_flag"}
    assert len(door.events) == 10


async def test_a_slice_is_the_clock_of_a_fast_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """After every slice of output the renewals are told to look, though the hold is large."""
    caps = FlaggedCaps()
    door = await open_door(small(upstream.url, cap="1.00", output=1000), caps)
    script = words(200)
    upstream.scripts = [[*script[: SLICE + 2], Act.WAIT, *script[SLICE + 2 :]]]
    answer = await door.chat(stream=True)
    seen = b""
    while seen.count(b"word") < SLICE + 1:
        seen += await answer.content.readany()

    caps.stop = DenialReason.KILLED
    await door.renewals.turn(0.0)  # no time has passed

    assert b"tenant_killed" in await answer.read()


async def test_a_flag_that_a_slice_finds(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """A hold that is to grow hears of the flag at once."""
    door = await open_door(small(upstream.url, cap="1.00"))
    script = words(200)
    upstream.scripts = [[*script[:20], Act.WAIT, *script[20:]]]
    answer = await door.chat(stream=True)
    await answer.content.readany()

    pause(door, "paused")
    upstream.proceed.set()

    assert b"tenant_paused" in await answer.read()
    assert tokens(door) <= 64
    assert held(door) == []


# -- the halt itself ---------------------------------------------------------------------------

DENIAL = Denial(DenialReason.KILLED)


async def test_what_is_halted_before_it_begins_ends_at_once() -> None:
    """An exchange that is stopped between its reserve and its first attempt sends nothing."""
    halt = Halt()
    halt.pull(DENIAL)

    with pytest.raises(TimeoutError):
        async with halt:
            await asyncio.Event().wait()

    assert halt.denial == DENIAL


async def test_the_first_denial_stays() -> None:
    """Whoever pulls later changes nothing."""
    halt = Halt()
    halt.pull(DENIAL)
    halt.pull(Denial(DenialReason.PAUSED))

    assert halt.denial == DENIAL


async def test_somebody_elses_cancelling_is_not_swallowed() -> None:
    """A client that leaves while it is stopped still ends its handler."""
    halt, entered = Halt(), asyncio.Event()

    async def work() -> None:
        async with halt:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await entered.wait()
    halt.pull(DENIAL)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_ended_by_itself_is_not_ended_again() -> None:
    """A pull that comes late reaches nobody."""
    halt = Halt()
    async with halt:
        pass

    halt.pull(DENIAL)
    await asyncio.sleep(0)

    assert halt.is_pulled


async def test_a_deadline_ends_what_is_inside() -> None:
    """It knows that it did, also where the timer fired a moment before the clock said so; who pulls
    after that is too late."""
    halt = Halt()
    halt.end_at(asyncio.get_running_loop().time() - 1.0)

    with pytest.raises(TimeoutError):
        async with halt:
            await asyncio.Event().wait()
    halt.pull(Denial(DenialReason.KILLED, 0, None))

    assert halt.is_late
    assert not halt.is_pulled


async def test_what_ends_before_its_deadline_is_not_late() -> None:
    """Nor is what has none."""
    timed, free = Halt(), Halt()
    timed.end_at(asyncio.get_running_loop().time() + 60.0)

    for halt in (timed, free):
        async with halt:
            await asyncio.sleep(0)

        assert not halt.is_late
