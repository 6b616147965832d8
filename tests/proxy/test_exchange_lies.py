"""What upstreams report or send that cannot be, from the client's request to the usage event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import KEY, OpenDoor, settings
from fixtures_upstream import ScriptedUpstream, body, completion

from proxy.settings import Settings

DEEP = b'{"a":' * 300 + b"1" + b"}" * 300


def door_to(url: str, **fields: Any) -> Settings:
    made = settings({"one": url})
    return replace(made, providers={"one": replace(made.providers["one"], **fields)})


async def test_a_report_beyond_what_was_asked_is_not_believed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Ten million tokens for five that were asked for are billed as the one that was seen."""
    door = await open_door(door_to(upstream.url))
    upstream.scripts = [[completion("hi", prompt=10, output=10**7)]]
    await (await door.chat(max_tokens=5)).read()

    assert door.events[0].usage_suspect is not None
    assert door.events[0].units["output_text"] < 1000


async def test_no_input_for_a_long_prompt_is_not_believed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A prompt that is reported as nothing is billed by our count."""
    door = await open_door(door_to(upstream.url))
    upstream.scripts = [[completion("hi", prompt=0, output=1)]]
    await (await door.chat(messages=[{"role": "user", "content": "word " * 5000}])).read()

    assert door.events[0].usage_suspect is not None
    assert door.events[0].units["input_uncached"] > 5000


async def test_a_completion_cannot_ask_for_more_than_is_held(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Another name for the limit is refused before anything is sent."""
    door = await open_door(door_to(upstream.url, options={"formats": "openai_chat"}))
    asked = {"model": "m", "prompt": "hi", "max_tokens": 1, "max_completion_tokens": 50_000}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await door.http.post(door.url + "/v1/completions", json=asked, headers=headers)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == "max_completion_tokens"
    assert upstream.received == []


async def test_a_thought_too_deep_does_not_break_us(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What a block has beside its own fields is not passed on."""
    door = await open_door(door_to(upstream.url, type="anthropic"))
    upstream.scripts = [
        [
            body(
                b'{"type":"message","id":"m","content":[{"type":"redacted_thinking","data":"t",'
                b'"x":' + DEEP + b'},{"type":"text","text":"hi"}],"stop_reason":"end_turn",'
                b'"usage":{"input_tokens":1,"output_tokens":9}}'
            )
        ]
    ]
    answer = await door.chat(max_tokens=20)

    assert answer.status == 200
    assert door.events[0].billable


ANSWERS = {
    "anthropic": (
        b'{"type":"message","id":"m","content":[{"type":"tool_use","id":"t","name":"f","input":'
        + DEEP
        + b'}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":900}}'
    ),
    "bedrock": (
        b'{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"1",'
        b'"name":"f","input":'
        + DEEP
        + b'}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":900}}'
    ),
}


@pytest.mark.parametrize("vendor", ANSWERS)
async def test_deep_arguments_are_told_and_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream, vendor: str
) -> None:
    """Arguments deeper than our writer goes are never replaced by others, nor for nothing."""
    options = {"region": "us-east-1"} if vendor == "bedrock" else {}
    door = await open_door(door_to(upstream.url, type=vendor, options=options))
    upstream.scripts = [[body(ANSWERS[vendor])]]
    answer = await door.chat(max_tokens=1000)
    call = (await answer.json())["choices"][0]["message"]["tool_calls"][0]

    assert call["function"]["arguments"].count("{") == 300
    assert door.events[0].admission_nano > 0
