"""Responses through the whole proxy, in the eyes of OpenAI's library and of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings, tenant
from fixtures_upstream import (
    DONE,
    FINISH,
    LAST_CHUNK,
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
from openai import AsyncOpenAI, AsyncStream
from openai.types.responses import ResponseStreamEvent

from metering.usage import TOKEN_CLASSES
from proxy.settings import Settings

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"


def native(configured: Settings) -> Settings:
    """The same where every provider speaks responses."""
    options = {"formats": "openai_responses"}
    providers = {
        name: replace(provider, options=options) for name, provider in configured.providers.items()
    }
    return replace(configured, providers=providers)


def library(door: RunningDoor) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=0)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


def units(door: RunningDoor) -> Mapping[str, int]:
    """The tokens that the one exchange is billed."""
    (event,) = door.events
    return {name: count for name, count in event.units.items() if name in TOKEN_CLASSES}


async def note_kinds(events: AsyncStream[ResponseStreamEvent], kinds: list[str]) -> None:
    """Read them all, and keep what each is called: they may end in an exception."""
    async for event in events:
        kinds += [event.type]


async def relay(open_door: OpenDoor, upstream: ScriptedUpstream, **fields: Any) -> RunningDoor:
    return await open_door(native(settings({"one": upstream.url}, **fields)))


async def test_a_stream_is_translated_and_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream of chat completions serves clients of responses."""
    upstream.scripts = [
        streamed(delta("Hel"), delta("lo"), FINISH, usage_event(10, 5), DONE),
    ]
    async with library(door) as client, client.responses.stream(model="m", input="hi") as events:
        final = await events.get_final_response()

    assert (final.output_text, final.model) == ("Hello", "m-1")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 5)
    assert units(door) == {"input_uncached": 10, "output_text": 5}
    sent = upstream.received[0]
    assert sent.path.endswith("/chat/completions")
    assert sent.json["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_whole_answer_is_translated_and_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """So does one that is asked for a whole answer."""
    upstream.scripts = [[completion("Hello")]]
    async with library(door) as client:
        response = await client.responses.create(model="m", input="hi", instructions="Be brief.")

    assert response.output_text == "Hello"
    assert units(door) == {"input_uncached": 10, "output_text": 5}


async def test_a_stream_is_relayed_and_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream of responses gets the request as it came, and its stream passes untouched."""
    upstream.scripts = [streamed(golden("cached"))]
    door = await relay(open_door, upstream)
    [provider] = door.door.settings.providers
    await door.door.owned.note("acme", provider, ["resp_0"], is_passing=True)
    fields = {"input": "hi", "stream": True, "previous_response_id": "resp_0", "store": False}
    async with door.http.post(
        f"{door.url}/v1/responses",
        json={"model": "m", **fields},
        headers={"Authorization": f"Bearer {KEY}"},
    ) as answer:
        passed = await answer.read()

    assert passed == golden("cached")
    assert units(door) == {
        "input_uncached": 64,
        "input_cache_read": 1920,
        "input_cache_write_5m": 64,
        "output_text": 4,
    }
    assert upstream.received[0].path.endswith("/responses")
    assert upstream.received[0].json == {"model": "up-m", **fields}


async def test_what_cannot_be_carried_is_refused_by_name(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """A tool that the vendor would run itself is not passed over in silence."""
    upstream.scripts = [[completion()]]
    async with library(door) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="hi", tools=[{"type": "web_search"}])

    assert caught.value.param == "tools[0].type"
    assert upstream.received == []


async def test_background_is_refused(door: RunningDoor) -> None:
    """What is billed after it was answered cannot be metered."""
    async with library(door) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="hi", background=True)

    assert caught.value.param == "background"


async def test_an_upstreams_error_is_raised_as_its_class(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The status and the words of an upstream reach the client."""
    error = {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "c"}}
    upstream.scripts = [[body(error, status=400)]]
    async with library(door) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="hi")

    assert caught.value.code == "c"


@pytest.mark.parametrize("is_native", [True, False])
async def test_a_stream_that_breaks_off_raises_and_is_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream, *, is_native: bool
) -> None:
    """Half an answer is an exception in the library, and half an answer's tokens are billed."""
    whole = golden("plain")
    half = whole[: whole.index(b"event: response.output_text.done")] if is_native else delta("Half")
    upstream.scripts = [[stream_head(), chunk(half), Act.CLOSE]]
    configured = settings({"one": upstream.url})
    door = await open_door(native(configured) if is_native else configured)
    async with library(door) as client:
        events = await client.responses.create(model="m", input="hi", stream=True)
        with pytest.raises(openai.APIError) as caught:
            await note_kinds(events, [])

    assert caught.value.code == "upstream_error"
    assert units(door)["output_text"] > 0


@pytest.mark.parametrize("is_native", [True, False])
async def test_a_stream_past_its_cap_ends_as_an_incomplete_one(
    open_door: OpenDoor, upstream: ScriptedUpstream, *, is_native: bool
) -> None:
    """Money that runs out in the midst of a text ends it as the model's own limit does."""
    word = " word" * 400
    text = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    text += b'"sequence_number":5,"item_id":"msg_00","output_index":0,"content_index":0,'
    text += b'"logprobs":[],"delta":"' + word.encode() + b'"}\n\n'
    whole = golden("plain")
    start = whole[: whole.index(b"event: response.output_text.delta")]
    pieces = [chunk(start), *[chunk(text)] * 40] if is_native else [chunk(delta(word))] * 40
    upstream.scripts = [[stream_head(), *pieces, LAST_CHUNK]]
    configured = settings({"one": upstream.url}, who=tenant("0.01"))
    door = await open_door(native(configured) if is_native else configured)
    async with library(door) as client, client.responses.stream(model="m", input="hi") as events:
        last = [event async for event in events][-1]

    assert last.type == "response.incomplete"
    assert last.response.status == "incomplete"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == units(door)["output_text"]
    assert last.response.output_text.startswith(" word word")


@pytest.mark.parametrize("name", ["failed", "error_nested", "error_flat"])
async def test_a_failure_of_the_upstreams_reaches_the_client(
    open_door: OpenDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """A relayed stream that ends in a failure does not look whole, and is billed."""
    said, failed = golden(name).rsplit(b"event: ", 1)
    upstream.scripts = [
        [stream_head(), chunk(said), Act.PAUSE, chunk(b"event: " + failed), LAST_CHUNK]
    ]
    door = await relay(open_door, upstream)
    kinds: list[str] = []
    async with library(door) as client:
        events = await client.responses.create(model="m", input="hi", stream=True)
        with pytest.raises(openai.APIError):
            await note_kinds(events, kinds)

    assert ("response.failed" in kinds) == (name == "failed")
    assert "response.completed" not in kinds
    assert units(door)["output_text"] > 0
