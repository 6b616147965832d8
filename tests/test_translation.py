"""Every client format before every upstream format, on real sockets and with the stock libraries:
what is asked reaches the upstream, what it says reaches the client, and what is told is billed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings, tenant
from fixtures_upstream import Script, ScriptedUpstream
from translation_answers import CALLING, CALLS, HELLO, MADE, Answer
from translation_clients import EARS, PIXEL, SCHEMA, STOP, Heard
from translation_upstreams import TRANSLATING, VOICES

from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES
from proxy.settings import Settings
from routing.upstreams import Model, Upstream

WAYS = [(client, upstream) for client in EARS for upstream in (*TRANSLATING, client)]
WAYS = list(dict.fromkeys(WAYS))
TALKING = [way for way in WAYS if way[0] != "openai_completions" and way[1] in TRANSLATING]
"""The ways of conversations: with tools, pictures and thinking."""

way = pytest.mark.parametrize(("client", "upstream_format"), WAYS)
talking = pytest.mark.parametrize(("client", "upstream_format"), TALKING)
streams = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def before(
    url: str, upstream_format: str, *, model: str = "up-m", cap: str = "10.00", **provider: Any
) -> Settings:
    """Settings with one upstream of this format."""
    voice = VOICES[upstream_format]
    upstream = Upstream("one", model, "m")
    made = settings({"one": url}, who=tenant(cap), models={"m": Model("m", (upstream,))})
    options = dict(voice.options)
    one = replace(made.providers["one"], type=voice.vendor, options=options, **provider)
    return replace(made, providers={"one": one})


def script(upstream_format: str, answer: Answer, *, stream: bool) -> Script:
    voice = VOICES[upstream_format]
    return voice.streamed(answer) if stream else voice.whole(answer)


def assert_billed(door: RunningDoor, heard: Heard) -> None:
    """One event with what the provider reported, told to the client as it is billed; and nothing is
    held any longer."""
    [event] = door.events
    given = sum(event.units.get(name, 0) for name in INPUT_CLASSES)
    made = sum(event.units.get(name, 0) for name in OUTPUT_CLASSES)
    assert heard.tokens == (given, made)
    assert made == MADE
    assert event.usage_source == "provider"
    assert event.usage_suspect is None
    assert held(door) == []


def strings(value: Any) -> Iterator[str]:
    """Every string in a body, names among them, JSON within strings read once more."""
    if isinstance(value, str):
        yield value
        if value.startswith("{"):
            yield from strings(orjson.loads(value))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a body, JSON within strings read once more."""
    if isinstance(value, str) and value.startswith("{"):
        yield from objects(orjson.loads(value))
    elif isinstance(value, dict):
        yield value
        for each in value.values():
            yield from objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from objects(each)


@streams
@way
async def test_a_text(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """It comes as it was said, with the usage that is billed."""
    door = await open_door(before(upstream.url, upstream_format))
    upstream.scripts = [script(upstream_format, HELLO, stream=stream)]
    ears = EARS[client]

    heard = await ears.ask(door, ears.plain, stream)

    assert heard.text == HELLO.text
    assert heard.reason == ears.ends["stop"]
    assert_billed(door, heard)
    assert door.events[0].finish_reason == "stop"
    assert "hi" in strings(upstream.received[0].json)


@streams
@way
async def test_an_answer_that_reached_its_limit(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """Each client has a word for it."""
    if client == upstream_format == "openai_responses" or (
        client == upstream_format == "openai_completions" and not stream
    ):
        pytest.skip("relayed as it came: nothing is said in another word")
    door = await open_door(before(upstream.url, upstream_format))
    answer = replace(HELLO, reason="length")
    upstream.scripts = [script(upstream_format, answer, stream=stream)]
    ears = EARS[client]

    heard = await ears.ask(door, ears.plain, stream)

    assert heard.reason == ears.ends["length"]
    assert door.events[0].finish_reason == "length"
    assert_billed(door, heard)


@streams
@talking
async def test_parallel_calls(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """Both come, each with its own arguments; the upstream had the tool with its schema."""
    door = await open_door(before(upstream.url, upstream_format))
    upstream.scripts = [script(upstream_format, CALLING, stream=stream)]
    ears = EARS[client]

    heard = await ears.ask(door, {**ears.plain, **ears.tools}, stream)

    assert heard.calls == list(CALLS)
    assert heard.text == CALLING.text
    assert heard.reason == ears.ends["calls"]
    assert_billed(door, heard)
    sent = upstream.received[0].json
    assert {"weather", "Tells it."} <= set(strings(sent))
    assert any(each.get("properties") == {"city": {"type": "string"}} for each in objects(sent))


@streams
@talking
async def test_a_turn_with_a_tool(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """The call that the client sends back, and its result, reach the upstream as a pair."""
    door = await open_door(before(upstream.url, upstream_format))
    once = replace(CALLING, calls=CALLS[:1])
    upstream.scripts = [
        script(upstream_format, once, stream=stream),
        script(upstream_format, HELLO, stream=stream),
    ]
    ears = EARS[client]
    assert ears.result is not None

    asked = await ears.ask(door, {**ears.plain, **ears.tools}, stream)
    heard = await ears.ask(door, {**ears.result(asked.turn, "sunny"), **ears.tools}, stream)

    assert heard.text == HELLO.text
    sent = upstream.received[1].json
    call, result = PAIRS[upstream_format](sent)
    assert call == result != ""
    assert {"Paris", "sunny"} <= set(strings(sent))
    assert len(door.events) == 2
    assert held(door) == []


def _chat_pair(sent: Any) -> tuple[str, str]:
    [call] = [each for each in sent["messages"] if each["role"] == "assistant"]
    [result] = [each for each in sent["messages"] if each["role"] == "tool"]
    return call["tool_calls"][0]["id"], result["tool_call_id"]


def _message_pair(sent: Any) -> tuple[str, str]:
    found = list(objects(sent))
    [call] = [each for each in found if each.get("type") == "tool_use"]
    [result] = [each for each in found if each.get("type") == "tool_result"]
    return call["id"], result["tool_use_id"]


def _gemini_pair(sent: Any) -> tuple[str, str]:
    found = list(objects(sent))
    [call] = [each["functionCall"] for each in found if "functionCall" in each]
    [result] = [each["functionResponse"] for each in found if "functionResponse" in each]
    assert call["name"] == result["name"] == "weather"
    return call["id"], result["id"]


def _bedrock_pair(sent: Any) -> tuple[str, str]:
    found = list(objects(sent))
    [call] = [each["toolUse"] for each in found if "toolUse" in each]
    [result] = [each["toolResult"] for each in found if "toolResult" in each]
    return call["toolUseId"], result["toolUseId"]


PAIRS = {
    "openai_chat": _chat_pair,
    "anthropic_messages": _message_pair,
    "gemini": _gemini_pair,
    "bedrock_converse": _bedrock_pair,
}


@talking
async def test_a_picture(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """It reaches the upstream whole, in the place that it has for pictures."""
    door = await open_door(before(upstream.url, upstream_format))
    upstream.scripts = [script(upstream_format, HELLO, stream=False)]
    ears = EARS[client]

    heard = await ears.ask(door, {**ears.plain, **ears.vision}, False)

    sent = upstream.received[0].json
    assert any(PIXEL in each for each in strings(sent))
    assert PICTURES[upstream_format] in orjson.dumps(sent)
    assert_billed(door, heard)


PICTURES = {
    "openai_chat": b'"image_url":{"url":"data:image/png;base64,',
    "anthropic_messages": b'"media_type":"image/png"',
    "gemini": b'"inlineData":{"mimeType":"image/png"',
    "bedrock_converse": b'"image":{"format":"png"',
}


@talking
async def test_a_schema(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str
) -> None:
    """The schema of the answer reaches the upstream unchanged."""
    door = await open_door(before(upstream.url, upstream_format))
    upstream.scripts = [script(upstream_format, HELLO, stream=False)]
    ears = EARS[client]

    heard = await ears.ask(door, {**ears.plain, **ears.schema}, False)

    assert SCHEMA in objects(upstream.received[0].json)
    assert_billed(door, heard)


@streams
@way
async def test_a_stop(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """The stop reaches the upstream; where that tells which one was met and the client has a word
    for it, it is told."""
    ears = EARS[client]
    if not ears.stop:
        pytest.skip("responses know no stops")
    door = await open_door(before(upstream.url, upstream_format, model="eu.anthropic.claude"))
    answer = replace(HELLO, met=STOP)
    upstream.scripts = [script(upstream_format, answer, stream=stream)]

    heard = await ears.ask(door, {**ears.plain, **ears.stop}, stream)

    assert STOP in strings(upstream.received[0].json)
    tells = upstream_format in ("anthropic_messages", "bedrock_converse")
    assert heard.reason == ears.ends["stop_sequence" if tells else "stop"]
    assert heard.met == (STOP if tells and client == "anthropic_messages" else None)
    assert_billed(door, heard)


@streams
@talking
async def test_thoughts_come_back_signed(
    open_door: OpenDoor, upstream: ScriptedUpstream, client: str, upstream_format: str, stream: bool
) -> None:
    """A thought is shown, and what its maker signed stands in the next request as it was: an
    upstream without signatures is sent none."""
    door = await open_door(before(upstream.url, upstream_format, model="eu.anthropic.claude-4"))
    signature = "" if upstream_format == "openai_chat" else "c2lnbmVkIQ=="
    answer = Answer((), CALLS[:1], thought="Hm, Paris.", signature=signature, reason="calls")
    upstream.scripts = [
        script(upstream_format, answer, stream=stream),
        script(upstream_format, HELLO, stream=stream),
    ]
    ears = EARS[client]
    assert ears.result is not None
    fields = {**ears.tools, **ears.thinking}

    asked = await ears.ask(door, {**ears.plain, **fields}, stream)
    await ears.ask(door, {**ears.result(asked.turn, "sunny"), **fields}, stream)

    assert asked.thought == "Hm, Paris."
    assert asked.calls == list(CALLS[:1])
    sent = upstream.received[1].json
    signed = [each for each in objects(sent) if {"signature", "thoughtSignature"} & each.keys()]
    assert len(signed) == (1 if signature else 0)
    if signature:
        assert signature in signed[0].values()
    assert held(door) == []


@pytest.mark.parametrize(
    ("upstream_format", "said"),
    [
        ("anthropic_messages", {"is_error": True}),
        ("bedrock_converse", {"status": "error"}),
        ("gemini", {"error": "sunny"}),
    ],
)
async def test_a_tool_that_failed(
    open_door: OpenDoor, upstream: ScriptedUpstream, upstream_format: str, said: dict[str, Any]
) -> None:
    """Upstreams that can be told so are."""
    door = await open_door(before(upstream.url, upstream_format, model="eu.anthropic.claude-4"))
    upstream.scripts = [script(upstream_format, HELLO, stream=False)]
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    ears = EARS["anthropic_messages"]
    assert ears.result is not None
    fields = ears.result([{"role": "assistant", "content": [call]}], "sunny")

    await ears.ask(door, {**fields, **ears.tools}, False)

    assert any(said.items() <= each.items() for each in objects(upstream.received[0].json))
