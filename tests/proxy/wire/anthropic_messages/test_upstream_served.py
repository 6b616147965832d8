"""Anthropic behind the whole proxy: clients of OpenAI, on real sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from fixtures_door import KEY, PROVIDER_KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import LAST_CHUNK, Act, Script, ScriptedUpstream, body, chunk, stream_head

from metering.events import UsageEvent
from metering.usage import TOKEN_CLASSES

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic_messages" / "upstream"
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


def streamed(name: str) -> Script:
    """A golden stream, an event at a time."""
    events = (GOLDEN / name).read_bytes().removesuffix(b"\n\n").split(b"\n\n")
    return [stream_head(), *(chunk(each + b"\n\n") for each in events), LAST_CHUNK]


@pytest.fixture
async def door(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A proxy in front of one scripted Anthropic."""
    made = settings({"one": upstream.url})
    one = replace(made.providers["one"], type="anthropic")
    return await open_door(replace(made, providers={"one": one}))


def client(door: RunningDoor) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0)


def _tokens(event: UsageEvent) -> dict[str, int]:
    return {name: count for name, count in event.units.items() if name in TOKEN_CLASSES}


async def test_a_whole_answer(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """A completion in OpenAI's words, and an event with the classes that Anthropic told."""
    golden = orjson.loads((GOLDEN / "answer_thinking.json").read_bytes())
    upstream.scripts = [[body(golden["answer"])]]

    async with client(door) as ours:
        said = await ours.chat.completions.create(model="m", messages=MESSAGES)

    assert said.choices[0].message.content == "27"
    assert said.usage is not None
    assert said.usage.prompt_tokens == 1310
    assert said.usage.completion_tokens_details is not None
    assert said.usage.completion_tokens_details.reasoning_tokens == 55
    [event] = door.events
    assert _tokens(event) == golden["units"]
    assert event.usage_source == "provider"
    [asked] = upstream.received
    assert asked.path == "/v1/messages"
    assert asked.headers["x-api-key"] == PROVIDER_KEY
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.json["system"] == [{"type": "text", "text": "Be brief."}]
    assert asked.json["model"] == "up-m"
    assert 0 < asked.json["max_tokens"] <= 4096


async def test_a_streamed_answer_with_tools(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """Arguments come as they are made; the usage chunk is what is billed."""
    upstream.scripts = [streamed("stream_tools.sse")]
    tools: Any = [{"type": "function", "function": {"name": "weather"}}]

    async with client(door) as ours:
        stream = await ours.chat.completions.create(
            model="m",
            messages=MESSAGES,
            tools=tools,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [each async for each in stream]

    pieces = [
        piece
        for each in chunks
        for choice in each.choices
        for piece in choice.delta.tool_calls or []
    ]
    arguments = {0: "", 1: ""}
    for piece in pieces:
        assert piece.function is not None
        arguments[piece.index] += piece.function.arguments or ""
    assert arguments == {0: '{"city":"Paris"}', 1: "{}"}
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (472, 89)
    [event] = door.events
    assert _tokens(event) == {"input_uncached": 472, "output_text": 89}


async def test_what_cannot_be_carried_is_refused_by_name(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """Before anything is sent, with the field in `param`."""
    async with client(door) as ours:
        with pytest.raises(openai.BadRequestError) as caught:
            await ours.chat.completions.create(model="m", messages=MESSAGES, seed=7)

    assert caught.value.param == "seed"
    assert upstream.received == []
    assert door.events == []


async def test_an_error_has_openais_shape(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """A refusal by Anthropic is one that OpenAI's clients know."""
    error = {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}
    upstream.scripts = [[body({"type": "error", "error": error}, status=400)]]

    async with client(door) as ours:
        with pytest.raises(openai.BadRequestError) as caught:
            await ours.chat.completions.create(model="m", messages=MESSAGES)

    assert caught.value.code == "context_length_exceeded"
    assert "prompt is too long: 9 > 8" in caught.value.message


async def test_a_stream_that_fails_is_billed_for_what_came(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The client sees a failure, and the tenant pays for the words before it."""
    *before, error, _ = streamed("broken_stream.sse")
    upstream.scripts = [[*before, Act.WAIT, error, Act.CLOSE]]

    async with client(door) as ours:
        stream = await ours.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        words: list[str] = []
        with pytest.raises(openai.APIError):
            await _read(stream, words, upstream)

    assert words == ["One, two, three, four"]
    [event] = door.events
    assert event.units["input_uncached"] == 12
    assert event.units["output_text"] >= 5
    assert event.usage_source == "mixed"


async def _read(stream: Any, words: list[str], upstream: ScriptedUpstream) -> None:
    """Read on to the end; what the upstream waits for are the first words."""
    async for each in stream:
        if said := each.choices[0].delta.content:
            words.append(said)
            upstream.proceed.set()
