"""Anthropic's SDK at the door, with an OpenAI-compatible server behind it: metered and billed."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anthropic
import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, held, settings, tenant
from fixtures_upstream import (
    DONE,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    event,
    stream_head,
    streamed,
    usage_event,
)
from fixtures_upstream import chunk as sent
from message_samples import call

from proxy.chat import ChatRequest
from proxy.passage import Passage
from proxy.wire import client_format
from proxy.wire.anthropic_messages import client

ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}


def sdk_of(door: RunningDoor) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=door.url, api_key=KEY, max_retries=0)


async def test_a_message_is_answered_and_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The upstream gets a chat completion, the client a message, the event the tokens."""
    upstream.scripts = [[completion("Hello", prompt=10, output=5)]]

    async with sdk_of(door) as sdk:
        message = await sdk.messages.create(system="Be brief.", **ASKED)

    [received] = upstream.received
    assert [each["role"] for each in received.json["messages"]] == ["system", "user"]
    assert received.json["max_tokens"] == 64
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hello"}]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    [found] = door.events
    assert (found.units["input_uncached"], found.units["output_text"]) == (10, 5)
    assert found.usage_source == "provider"
    assert held(door) == []


async def test_a_stream_is_answered_and_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """The same for a stream with a tool's call; the usage told is the usage billed."""
    pieces = [call(0, id="c1", name="now"), call(0, '{"zone":'), call(0, '"CET"}')]
    events = [event({"choices": [{"index": 0, "delta": each}]}) for each in pieces]
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    upstream.scripts = [streamed(delta("Let me see."), *events, end, usage_event(10, 5), DONE)]

    async with sdk_of(door) as sdk, sdk.messages.stream(**ASKED) as stream:
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[1].to_dict()["input"] == {"zone": "CET"}
    assert message.stop_reason == "tool_use"
    [found] = door.events
    assert (message.usage.input_tokens, message.usage.output_tokens) == (
        found.units["input_uncached"],
        found.units["output_text"],
    )
    assert held(door) == []


async def test_a_stream_that_breaks_off_raises_and_is_billed(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """What was said before is billed by our own count."""
    upstream.scripts = [[stream_head(), sent(delta("Hello world")), Act.RESET]]

    async with sdk_of(door) as sdk, sdk.messages.stream(**ASKED) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.until_done()

    assert (caught.value.type, caught.value.error_code) == ("api_error", "upstream_error")
    [found] = door.events
    assert (found.units["output_text"], found.usage_source) == (2, "counted")
    assert held(door) == []


async def test_a_spent_cap_is_told_in_anthropics_words(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What can never fit is a bad request, with our code and the numbers in the details."""
    door = await open_door(settings({"one": upstream.url}, who=tenant("0.000001")))

    async with sdk_of(door) as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(**ASKED)

    assert caught.value.type == "invalid_request_error"
    assert caught.value.error_code == "request_exceeds_budget"
    assert upstream.received == []


async def test_what_cannot_be_translated_is_refused(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """A server tool is none of an OpenAI-compatible server's, and is named."""
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}

    async with sdk_of(door) as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(tools=[tool], **ASKED)

    assert "`tools.0`" in str(caught.value.api_message)
    assert caught.value.error_code == "unsupported_parameter"
    assert upstream.received == []


async def test_a_refusal_names_the_clients_own_field(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What the client never wrote is not named: it is `stop_sequences` here, not `stop`."""
    made = settings({"one": upstream.url})
    one = replace(made.providers["one"], type="gemini")
    door = await open_door(replace(made, providers={"one": one}))
    choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
    tool: Any = {"name": "now", "input_schema": {"type": "object"}}

    async with sdk_of(door) as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(tool_choice=choice, tools=[tool], **ASKED)

    assert "`tool_choice.disable_parallel_tool_use`" in str(caught.value.api_message)
    assert "`parallel_tool_calls`" not in str(caught.value.api_message)
    assert upstream.received == []


@pytest.mark.parametrize(
    ("client", "field", "expected"),
    [
        ("anthropic_messages", "stop", "stop_sequences"),
        ("anthropic_messages", "messages[4].is_error", "messages.tool_result.is_error"),
        ("anthropic_messages", "tools", "tools"),
        ("openai_responses", "messages[1].name", "input.name"),
        ("openai_responses", "response_format", "text.format"),
        ("openai_chat", "messages[1].name", "messages[1].name"),
    ],
)
def test_fields_go_by_the_clients_names(client: str, field: str, expected: str) -> None:
    """For each format what it calls a field of a chat completion."""
    own = {"input": "hi"} if client == "openai_responses" else {"messages": [], "max_tokens": 1}
    body = {"model": "m", **own}
    request = client_format(client).parse_request(orjson.dumps(body))
    upstream: Any = SimpleNamespace(cannot_carry=lambda chat: [field])

    way = Passage(client_format(client), upstream, "other", is_same=False)

    assert way.lacks(request) == [expected]


async def test_an_upstreams_error_is_told_in_anthropics_words(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """OpenAI's error body becomes one of Anthropic's; the code is kept."""
    error = {
        "message": "Too long.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
    }
    upstream.scripts = [[body({"error": error}, 400)]]

    async with sdk_of(door) as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(**ASKED)

    assert caught.value.api_message == "Too long."
    assert caught.value.error_code == "context_length_exceeded"


async def test_a_prompt_is_counted_here(door: RunningDoor, upstream: ScriptedUpstream) -> None:
    """Nothing is sent anywhere for it, and nothing is billed."""
    asked = {name: value for name, value in ASKED.items() if name != "max_tokens"}

    async with sdk_of(door) as sdk:
        short = await sdk.messages.count_tokens(**asked)
        longer = await sdk.messages.count_tokens(system="Be brief. " * 100, **asked)

    assert 0 < short.input_tokens < 20
    assert 200 < longer.input_tokens - short.input_tokens < 400
    assert upstream.received == []
    assert door.events == []


async def test_a_long_prompt_is_read_in_a_thread(
    door: RunningDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else waits for it."""
    threads: list[int] = []
    parse = client.parse_count

    def watched(raw: bytes) -> ChatRequest:
        threads.append(threading.get_ident())
        return parse(raw)

    monkeypatch.setattr(client, "parse_count", watched)
    asked = {name: value for name, value in ASKED.items() if name != "max_tokens"}

    async with sdk_of(door) as sdk:
        await sdk.messages.count_tokens(**asked)
        await sdk.messages.count_tokens(system="Be brief. " * 110_000, **asked)

    short, long = threads
    assert short == threading.get_ident() != long
