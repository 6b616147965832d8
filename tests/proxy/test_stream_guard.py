"""Streams at the edge of a cap, through the whole proxy: they grow by slices, and end in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import openai
import pytest
from fixtures_door import (
    KEY,
    OpenDoor,
    held,
    settings,
    tenant,
)
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    Step,
    delta,
    event,
    streamed,
)
from stream_samples import SLICE, TOKEN_NANO, WORD, objects, small, spent, tokens, words

from metering.caps import (
    Candidate,
    Denial,
    Hold,
    Reservation,
)
from metering.memory_caps import MemoryCaps


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


async def test_what_is_used_beyond_the_hold_is_measured(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream that puts a whole answer into one event passes its hold by that, no more."""
    door = await open_door(small(upstream.url, cap="0.001"))
    upstream.scripts = [streamed(delta(" word" * 1000), WORD, WORD)]

    raw = await (await door.chat(stream=True)).read()

    assert objects(raw)[-1] == "[DONE]"
    assert tokens(door) == 1000
    over = (1000 - 64) * TOKEN_NANO
    assert door.door.metrics.metrics.counters["weir_overrun_nano_usd_total", "m"] == over


def spoken(*, read: int, count: int = 400) -> list[Step]:
    """A message of Anthropic's that tells at its start what it has read."""
    usage = {"input_tokens": read, "output_tokens": 1}
    opening = {"id": "msg_1", "model": "claude", "content": [], "usage": usage}
    said = {"type": "content_block_delta", "index": 0}
    delta = {**said, "delta": {"type": "text_delta", "text": " word"}}
    ending = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    events = [
        {"type": "message_start", "message": opening},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[delta] * count,
        {"type": "content_block_stop", "index": 0},
        {**ending, "usage": {"output_tokens": count}},
        {"type": "message_stop"},
    ]
    return streamed(*map(event, events))


@pytest.mark.parametrize(("read", "said"), [(8, 248), (500, 125), (10_000, 1)])
async def test_input_that_is_told_early_leaves_less_room(
    open_door: OpenDoor, upstream: ScriptedUpstream, read: int, said: int
) -> None:
    """True or not: what the upstream says it has read is billed, so the output may only have what
    it leaves of the cap. Beyond the cap goes that input alone."""
    made = small(upstream.url, cap="0.001")
    providers = {"one": replace(made.providers["one"], type="anthropic")}
    door = await open_door(replace(made, providers=providers))
    upstream.scripts = [spoken(read=read)]

    raw = await (await door.chat(stream=True)).read()

    assert objects(raw)[-2]["choices"][0]["finish_reason"] == "length"
    [found] = door.events
    assert found.units["input_uncached"] == read
    assert said - SLICE <= tokens(door) <= said
    input_nano = found.admission_nano - tokens(door) * TOKEN_NANO
    assert spent(door) <= max(1_000_000, input_nano + TOKEN_NANO)
    assert held(door) == []
