"""A stream that breaks off is gone on with by another upstream, end to end: messages."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from continued_samples import (
    CLAUDE,
    NEW_CLAUDE,
    PARTS,
    REST,
    WHOLE,
    cut,
    going,
    message_events,
    named,
    read_events,
)
from fixtures_door import KEY, OpenDoor, RunningDoor, held
from fixtures_upstream import (
    DONE,
    FINISH,
    ScriptedUpstream,
    delta,
    streamed,
    usage_event,
)

from proxy.continuable import INSTRUCTION

BOTH = {"one": "anthropic", "two": "anthropic"}


async def opened(
    open_door: OpenDoor, one: ScriptedUpstream, two: ScriptedUpstream, **fields: Any
) -> RunningDoor:
    return await open_door(going({"one": one.url, "two": two.url}, **fields))


async def messages(door: RunningDoor, **fields: Any) -> bytes:
    """What a client of the Messages API reads."""
    asked = {
        "model": "m",
        "max_tokens": 200,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
        **fields,
    }
    answer = await door.http.post(f"{door.url}/v1/messages", json=asked, headers={"x-api-key": KEY})
    door.answers.append(answer)
    return await answer.read()


def check_is_one(raw: bytes, *, text: str = WHOLE) -> list[dict[str, Any]]:
    """The events are those of one message: each block begins and ends once, in order."""
    events = [each for each in read_events(raw) if each["type"] != "ping"]
    kinds = [each["type"] for each in events]
    assert kinds[0] == "message_start"
    assert kinds.count("message_start") == kinds.count("message_stop") == 1
    assert kinds[-2:] == ["message_delta", "message_stop"]
    open_block, numbers = None, []
    for each in events:
        match each["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = each["index"]
                numbers.append(open_block)
            case "content_block_delta":
                assert each["index"] == open_block
            case "content_block_stop":
                assert each["index"] == open_block
                open_block = None
    assert open_block is None
    assert numbers == list(range(len(numbers)))
    said = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert "".join(each.get("text", "") for each in said) == text
    return events


FIRST = message_events(PARTS)


@pytest.mark.parametrize("count", range(1, len(FIRST) - 1))
@pytest.mark.parametrize("model", [CLAUDE, NEW_CLAUDE])
async def test_cut_after_every_event(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    count: int,
    model: str,
) -> None:
    """Wherever it breaks off before its reason, the client reads one message."""
    names = {"one": "claude-sonnet-4-5", "two": model}
    door = await opened(open_door, upstream, other_upstream, kinds=BOTH, names=names)
    said = PARTS[: max(0, count - 2)]
    upstream.scripts = [cut(*FIRST[:count])]
    rest = (*PARTS[len(said) :], *REST)
    other_upstream.scripts = [streamed(*message_events(rest, number=2, prompt=40))]

    events = check_is_one(await messages(door))

    if count < len(FIRST) - 2:
        assert events[0]["message"]["id"] == "msg_1"
        first, last = door.events
        assert (first.reason_code, last.reason_code) == ("partial", "served")
        told = events[-2]["usage"]
        assert told["input_tokens"] == 50
        assert told["output_tokens"] == first.units["output_text"] + last.units["output_text"]
        asked = other_upstream.received[0].json["messages"]
        assert len(asked) == 1 + bool(said) * (1 if model == CLAUDE else 2)
        if said:
            assert asked[1]["role"] == "assistant"
        if said and model == NEW_CLAUDE:
            assert asked[2] == {"role": "user", "content": INSTRUCTION}
    assert held(door) == []


async def test_thinking_comes_first(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Thoughts are not carried: whoever goes on has its own, in blocks of their own."""
    door = await opened(open_door, upstream, other_upstream, kinds=BOTH, names={"two": CLAUDE})
    block = {"type": "thinking", "thinking": "", "signature": ""}
    thought = {"type": "thinking_delta", "thinking": "Hm."}
    begun = [
        FIRST[0],
        named({"type": "content_block_start", "index": 0, "content_block": block}),
        named({"type": "content_block_delta", "index": 0, "delta": thought}),
    ]
    upstream.scripts = [cut(*begun)]
    other_upstream.scripts = [streamed(*message_events((*PARTS, *REST), number=2))]

    events = check_is_one(await messages(door))

    blocks = [each["content_block"]["type"] for each in events if "content_block" in each]
    assert blocks == ["thinking", "text"]


async def test_a_tool_of_the_provider_ends_with_an_error(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A block that is neither text nor thought is not gone on with."""
    door = await opened(open_door, upstream, other_upstream, kinds=BOTH, names={"two": CLAUDE})
    block = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    begun = named({"type": "content_block_start", "index": 0, "content_block": block})
    upstream.scripts = [cut(FIRST[0], begun)]

    events = read_events(await messages(door))

    assert events[-1]["type"] == "error"
    assert not other_upstream.received


async def test_an_overloaded_upstream(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Its error is not the client's, as long as somebody goes on."""
    door = await opened(open_door, upstream, other_upstream, kinds=BOTH, names={"two": CLAUDE})
    error = named({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})
    upstream.scripts = [cut(*FIRST[:5], error)]
    other_upstream.scripts = [streamed(*message_events(REST, number=2))]

    raw = await messages(door)

    check_is_one(raw)
    assert b"overloaded" not in raw


async def test_another_format_goes_on(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The second part may come as a chat completion."""
    door = await opened(open_door, upstream, other_upstream, kinds={"one": "anthropic"})
    upstream.scripts = [cut(*FIRST[:5])]
    other_upstream.scripts = [streamed(*map(delta, REST), FINISH, usage_event(40, 6), DONE)]
    check_is_one(await messages(door))


async def test_another_format_is_gone_on_with(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The first part may have come as a chat completion."""
    door = await opened(open_door, upstream, other_upstream, kinds={"two": "anthropic"})
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [streamed(*message_events(REST, number=2))]
    check_is_one(await messages(door))


async def test_the_anthropic_sdk_reads_the_whole(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Anthropic's own client puts it together as one message."""
    door = await opened(open_door, upstream, other_upstream, kinds=BOTH, names={"two": NEW_CLAUDE})
    upstream.scripts = [cut(*FIRST[:5])]
    other_upstream.scripts = [streamed(*message_events(REST, number=2, prompt=40))]
    client = anthropic.AsyncAnthropic(api_key=KEY, base_url=door.url, max_retries=0)

    async with client.messages.stream(
        model="m", max_tokens=200, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        message = await stream.get_final_message()
    await client.close()

    assert (message.id, message.stop_reason) == ("msg_1", "end_turn")
    assert [block.text for block in message.content if block.type == "text"] == [WHOLE]
    assert message.usage.input_tokens == 50
