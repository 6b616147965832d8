"""Streams at the edge of a cap, and exchanges that somebody stops, through the whole proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import openai
import orjson
import pytest
from fixtures_door import (
    KEY,
    OpenDoor,
    RunningDoor,
    held,
    settings,
    tenant,
)
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
    Act,
    ScriptedUpstream,
    Step,
    chunk,
    completion,
    delta,
    event,
    stream_head,
    streamed,
)
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import (
    AdmittedBy,
    Candidate,
    CapsUnavailableError,
    Denial,
    DenialReason,
    Hold,
    Renewal,
    Reservation,
    Stairs,
    Vector,
)
from metering.clock import monotonic_s
from metering.memory_caps import MemoryCaps
from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.settings import Settings
from proxy.wire.openai_chat import StreamReader

WORD = delta(" word")
TOKEN_NANO = 4_000
"""What a token of output sells for, by the rule of the fixtures."""

SLICE = 32


def small(url: str, *, cap: str, output: int = 64, **fields: Any) -> Settings:
    """A tenant with that cap, whose streams begin with a hold for `output` tokens."""
    made = settings({"one": url}, who=tenant(cap))
    return replace(made, default_output_tokens=output, stream_slice_tokens=SLICE, **fields)


def words(count: int, *, at_once: int = 1) -> list[Step]:
    """A stream of so many tokens, `at_once` of them in a chunk of the transport, then its end."""
    bodies = [WORD] * count
    chunks = [b"".join(bodies[at : at + at_once]) for at in range(0, count, at_once)]
    return [stream_head(), *map(chunk, chunks), chunk(FINISH + DONE), LAST_CHUNK]


def tokens(door: RunningDoor) -> int:
    [found] = door.events
    return found.units.get("output_text", 0)


def spent(door: RunningDoor) -> int:
    return sum(each.admission_nano for each in door.events)


def objects(raw: bytes) -> list[Any]:
    """What stands in the events of a stream, `[DONE]` as text."""
    parts = [part.removeprefix(b"data: ") for part in raw.split(b"\n\n") if part]
    return [part.decode() if part == b"[DONE]" else orjson.loads(part) for part in parts]


async def test_a_hold_grows_while_there_is_room(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream far longer than its first hold is served whole under a cap that has room for it."""
    door = await open_door(small(upstream.url, cap="1.00"))
    upstream.scripts = [words(500)]

    raw = await (await door.chat(stream=True)).read()

    assert raw == WORD * 500 + FINISH + DONE
    [found] = door.events
    assert (found.status, found.finish_reason, tokens(door)) == ("success", "stop", 500)
    assert held(door) == []


@pytest.mark.parametrize("at_once", [1, 7, 50, 400])
async def test_a_stream_ends_softly_at_the_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream, at_once: int
) -> None:
    """However its chunks are cut, the stream ends as if its model had run out of tokens, within
    the cap, and is billed what was counted."""
    door = await open_door(small(upstream.url, cap="0.001"))
    upstream.scripts = [words(400, at_once=at_once)]

    raw = await (await door.chat(stream=True, stream_options={"include_usage": True})).read()

    *sent, end, usage, done = objects(raw)
    assert done == "[DONE]"
    assert (end["choices"][0]["finish_reason"], end["id"]) == ("length", "chatcmpl-1")
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(sent) == tokens(door)
    [found] = door.events
    assert (found.status, found.reason_code) == ("stopped", "stopped_at_cap")
    assert (found.finish_reason, found.billable) == ("length", True)
    assert spent(door) <= 1_000_000
    assert spent(door) > 1_000_000 - (SLICE + 1) * TOKEN_NANO
    assert held(door) == []


async def test_a_stream_ends_with_an_error(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """`on_exhausted: error` tells it in the stream, without `[DONE]`."""
    door = await open_door(small(upstream.url, cap="0.001", on_exhausted="error"))
    upstream.scripts = [words(400)]

    raw = await (await door.chat(stream=True)).read()

    last = objects(raw)[-1]
    assert last["error"]["code"] == last["error"]["type"] == "insufficient_quota"
    assert "ended here" in last["error"]["message"]
    assert last["error"]["metadata"]["limit_source"] == "tenant_daily_cap"
    assert door.events[0].reason_code == "stopped_at_cap"
    assert spent(door) <= 1_000_000


async def test_the_upstream_is_cut_off(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """What nobody can pay for is not generated any further."""
    door = await open_door(small(upstream.url, cap="0.001"))
    upstream.scripts = [[*words(400)[:-2], Act.HANG]]

    await (await door.chat(stream=True)).read()

    await upstream.left.wait()
    assert door.events[0].reason_code == "stopped_at_cap"


async def test_every_choice_and_every_kind_of_output_counts(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """n = 2 with reasoning, text and arguments of tools: each open choice is ended."""
    door = await open_door(small(upstream.url, cap="0.001"))
    call = {"index": 0, "function": {"arguments": " word"}}
    deltas = [
        {"content": " word"},
        {"reasoning_content": " word"},
        {"tool_calls": [call]},
    ]
    each = [
        event({"id": "c", "choices": [{"index": index, "delta": said}]})
        for said in deltas
        for index in (0, 1)
    ]
    upstream.scripts = [streamed(*each * 100)]

    raw = await (await door.chat(stream=True, n=2)).read()

    *_, first, second, done = objects(raw)
    ends = [
        (end["choices"][0]["index"], end["choices"][0]["finish_reason"]) for end in (first, second)
    ]
    assert ends == [(0, "length"), (1, "length")]
    assert done == "[DONE]"
    assert spent(door) <= 1_000_000
    assert door.events[0].units["output_reasoning"] > 50


async def test_the_sdk_sees_an_answer_that_ran_out(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The stock client takes the ending for what a model does by itself, and does not retry."""
    door = await open_door(small(upstream.url, cap="0.001"))
    upstream.scripts = [words(400)]
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        seen = [part async for part in stream]

    assert seen[-2].choices[0].finish_reason == "length"
    assert seen[-1].usage is not None
    assert seen[-1].usage.completion_tokens == tokens(door)
    assert len(upstream.received) == 1


async def test_what_was_asked_for_is_held_and_not_asked_for_again(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream that keeps to the client's own max_tokens makes no call to Redis in its middle."""

    class CountingCaps(MemoryCaps):
        swaps = 0

        async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
            self.swaps += 1
            return await super().swap(hold, candidate)

    caps = CountingCaps()
    door = await open_door(small(upstream.url, cap="1.00"), caps)
    upstream.scripts = [words(300)]

    await (await door.chat(stream=True, max_tokens=300)).read()

    assert (caps.swaps, tokens(door)) == (0, 300)


async def test_a_tenant_without_a_cap_is_not_asked_about(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Where nothing bounds the output there is nothing to hold."""

    class NoSwaps(MemoryCaps):
        async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
            raise AssertionError("nobody has to ask")

    made = replace(settings({"one": upstream.url}, who=tenant(None)), default_output_tokens=8)
    door = await open_door(made, NoSwaps())
    upstream.scripts = [words(300)]

    raw = await (await door.chat(stream=True)).read()

    assert raw.endswith(FINISH + DONE)


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


async def test_many_streams_at_one_cap(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Twenty streams that all want more than there is: the cap is not passed, and nothing is left
    held."""
    door = await open_door(small(upstream.url, cap="0.01"))
    upstream.scripts = [words(400)]

    answers = await asyncio.gather(*(door.chat(stream=True) for _ in range(20)))
    bodies = await asyncio.gather(*(answer.read() for answer in answers))

    assert all(raw.endswith(DONE) for raw in bodies if b"error" not in raw)
    assert 9_000_000 < spent(door) <= 10_000_000
    assert held(door) == []


# -- flags ------------------------------------------------------------------------------------


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
    [(DenialReason.KILLED, "run_killed"), (DenialReason.PAUSED, "tenant_paused")],
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
    assert (await answer.json())["error"]["code"] == "run_killed"
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

    assert b"run_killed" in await answer.read()


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


# -- answers in one piece ----------------------------------------------------------------------


class ShrinkingCaps(MemoryCaps):
    """There is room for so many tokens of output, beside the input."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self.output = output

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
    ) -> Reservation | Denial:
        answer = await super().reserve(
            hold, candidates, owner=owner, ttl_ms=ttl_ms, facts=facts, stairs=stairs
        )
        assert isinstance(answer, Reservation)
        full = candidates[answer.index].vector
        spare = 1000 - self.output
        shrunk = Vector(full.nano - spare * TOKEN_NANO, full.tokens - spare, 1)
        return replace(answer, vector=shrunk)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"max_tokens": 100}),
        ({"max_tokens": 1000}, {"max_tokens": 100}),
        ({"max_completion_tokens": 1000}, {"max_completion_tokens": 100}),
        (
            {"max_tokens": 50, "max_completion_tokens": 1000},
            {"max_tokens": 50, "max_completion_tokens": 100},
        ),
        ({"n": 2, "max_tokens": 500}, {"n": 2, "max_tokens": 50}),
    ],
    ids=["none", "max_tokens", "max_completion_tokens", "both", "choices"],
)
async def test_max_tokens_is_cut_to_what_is_held(
    open_door: OpenDoor, upstream: ScriptedUpstream, asked: Any, sent: Any
) -> None:
    """In the field that the client used, per choice; the answer says so."""
    door = await open_door(settings({"one": upstream.url}), ShrinkingCaps(100))
    upstream.scripts = [[completion()]]

    answer = await door.chat(**asked)

    received = upstream.received[0].json
    assert {name: received[name] for name in received.keys() - {"model", "messages"}} == sent
    assert answer.headers["x-weir-max-tokens-clamped"] == str(100 // asked.get("n", 1))


async def test_what_fits_is_left_alone(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """A request that is held whole goes out as it came."""
    upstream.scripts = [[completion()]]

    answer = await door.chat(max_tokens=500)

    assert upstream.received[0].json["max_tokens"] == 500
    assert "x-weir-max-tokens-clamped" not in answer.headers


async def test_a_stream_is_not_cut_beforehand(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream that begins with a small hold may still grow, so its limit stays."""
    door = await open_door(settings({"one": upstream.url}), ShrinkingCaps(16))
    upstream.scripts = [words(300)]

    answer = await door.chat(stream=True, max_tokens=1000)
    raw = await answer.read()

    assert raw.endswith(FINISH + DONE)
    assert upstream.received[0].json["max_tokens"] == 1000
    assert "x-weir-max-tokens-clamped" not in answer.headers
    assert door.events[0].admitted_by is not AdmittedBy.OPEN


# -- the reader --------------------------------------------------------------------------------


@given(
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    room=st.integers(1, 40),
)
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int], room: int) -> None:
    """A stream ends at the same event and with the same bytes, however it arrives."""
    raw, at, sent = WORD * 40 + FINISH + DONE, 0, b""
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = StreamReader(meter, strip_usage=True, must_wait=lambda: meter.reaches(room))
    while at < len(raw) and not reader.must_wait:
        size = cuts.pop(0) if cuts else len(raw)
        sent += reader.feed(raw[at : at + size])
        at += size

    assert sent == WORD * room
    assert meter.output_tokens == room
    assert reader.end_softly().endswith(DONE)
    assert reader.reply.finish_reason == "length"
