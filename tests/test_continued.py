"""A stream that breaks off is gone on with by another upstream, end to end: chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from continued_samples import (
    CLAUDE,
    OPENED,
    PARTS,
    REST,
    WHOLE,
    check_is_one,
    cut,
    going,
    message_events,
    read_events,
    second,
    text_of,
)
from fixtures_door import KEY, OpenDoor, RunningDoor, held
from fixtures_upstream import (
    DONE,
    Act,
    ScriptedUpstream,
    body,
    completion,
    delta,
    event,
    scripted_upstream,
    streamed,
)

from proxy.continuable import INSTRUCTION


@pytest.fixture
async def third_upstream() -> AsyncIterator[ScriptedUpstream]:
    """A third one."""
    async with scripted_upstream() as scripted:
        yield scripted


async def opened(
    open_door: OpenDoor, one: ScriptedUpstream, two: ScriptedUpstream, **fields: Any
) -> RunningDoor:
    return await open_door(going({"one": one.url, "two": two.url}, **fields))


@pytest.mark.parametrize("said", range(len(PARTS) + 1))
@pytest.mark.parametrize("end", [Act.CLOSE, Act.RESET])
async def test_cut_after_every_event(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    said: int,
    end: Act,
) -> None:
    """Wherever it breaks off, the client reads one answer; each part is an event, and billed."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(OPENED, *map(delta, PARTS[:said]), end=end)]
    other_upstream.scripts = [second(*PARTS[said:], *REST)]

    raw = await (await door.chat(stream=True, stream_options={"include_usage": True})).read()

    events = check_is_one(raw)
    first, last = door.events
    assert [first.reason_code, last.reason_code] == ["partial", "served"]
    assert (last.fallback_reason, last.attempt, last.provider) == ("truncated", 2, "two")
    assert last.units["input_uncached"] == 40
    input_, output = (
        sum(each.units.get(name, 0) for each in (first, last))
        for name in ("input_uncached", "output_text")
    )
    told = events[-1]["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (input_, output)
    assert first.exchange_id == last.exchange_id
    assert held(door) == []
    asked = other_upstream.received[0].json["messages"]
    text = "".join(PARTS[:said]).rstrip()
    wanted = [{"role": "assistant", "content": text}, {"role": "user", "content": INSTRUCTION}]
    assert asked == [{"role": "user", "content": "hi"}, *(wanted if text else [])]


async def test_without_the_switch_it_ends_with_an_error(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Nobody is asked to go on unless the model says so."""
    door = await opened(open_door, upstream, other_upstream, continues=False)
    upstream.scripts = [cut(delta("Hello"))]

    raw = await (await door.chat(stream=True)).read()

    assert b'"upstream_error"' in raw or b'"error"' in raw
    assert DONE not in raw
    assert not other_upstream.received


async def test_a_stall_is_gone_on_with(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Silence for `stall_timeout_s` is the end of the first part."""
    door = await opened(open_door, upstream, other_upstream, stall_timeout_s=0.2)
    upstream.scripts = [cut(*map(delta, PARTS), end=Act.HANG)]
    other_upstream.scripts = [second(*REST)]

    check_is_one(await (await door.chat(stream=True)).read())


async def test_an_error_in_the_stream_is_gone_on_with(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The client does not see the error of the first upstream."""
    door = await opened(open_door, upstream, other_upstream)
    error = event({"error": {"message": "overloaded", "type": "server_error"}})
    upstream.scripts = [cut(delta(PARTS[0]), b"".join([*map(delta, PARTS[1:]), error, DONE]))]
    other_upstream.scripts = [second(*REST)]

    raw = await (await door.chat(stream=True)).read()

    check_is_one(raw)
    assert b"overloaded" not in raw


async def test_half_an_event_is_left_out(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """What came of an event that was not whole is not in the stream."""
    door = await opened(open_door, upstream, other_upstream)
    half = delta(REST[0])[:40]
    whole = b"".join([*map(delta, PARTS), half])
    head = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    upstream.scripts = [[head + whole, Act.CLOSE]]
    other_upstream.scripts = [second(*REST)]

    check_is_one(await (await door.chat(stream=True)).read())


@pytest.mark.parametrize(
    "again", [("that counted ", "every drop of", " the river.", REST[1]), (*PARTS, *REST)]
)
async def test_words_that_are_said_again_are_left_out(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    again: tuple[str, ...],
) -> None:
    """A model that begins with the last words, or with all of them, repeats nothing."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [second(*again)]

    check_is_one(await (await door.chat(stream=True)).read())


async def test_the_second_also_breaks_off(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """With nobody left it ends with an error in-band, and both parts are billed."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [cut(delta(REST[0]))]

    raw = await (await door.chat(stream=True)).read()

    assert DONE not in raw
    *said, error = read_events(raw)
    assert "two broke off" in error["error"]["message"]
    assert text_of(said) == "".join(PARTS) + REST[0]
    assert [each.reason_code for each in door.events] == ["partial", "partial"]
    assert held(door) == []


async def test_three_upstreams_tell_one_answer(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    third_upstream: ScriptedUpstream,
) -> None:
    """The third gets what both have said."""
    urls = {"one": upstream.url, "two": other_upstream.url, "three": third_upstream.url}
    door = await open_door(going(urls))
    upstream.scripts = [cut(delta(PARTS[0]))]
    other_upstream.scripts = [cut(delta(PARTS[1], id="chatcmpl-2"), delta(PARTS[2]))]
    third_upstream.scripts = [second(*REST)]

    check_is_one(await (await door.chat(stream=True)).read())

    asked = third_upstream.received[0].json["messages"]
    assert asked[1]["content"] == "".join(PARTS)
    assert [each.reason_code for each in door.events] == ["partial", "partial", "served"]


async def test_one_that_fails_at_once_is_passed_by(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    third_upstream: ScriptedUpstream,
) -> None:
    """What fails before it says anything costs nothing, and the next one goes on."""
    urls = {"one": upstream.url, "two": other_upstream.url, "three": third_upstream.url}
    door = await open_door(going(urls))
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [[body({"error": {"message": "no"}}, 503)]]
    third_upstream.scripts = [second(*REST)]

    check_is_one(await (await door.chat(stream=True)).read())

    assert [each.billable for each in door.events] == [True, False, True]


@pytest.mark.parametrize("status", [400, 401, 503])
async def test_a_refusal_to_go_on_ends_with_an_error(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream, status: int
) -> None:
    """The client is told in-band that the stream broke off, not what the second one said."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [[body({"error": {"message": "no such thing"}}, status)]]

    raw = await (await door.chat(stream=True)).read()

    assert DONE not in raw
    assert "one broke off" in read_events(raw)[-1]["error"]["message"]
    assert b"no such thing" not in raw


async def test_where_the_cap_has_no_room_it_ends_with_an_error(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The second part is held like any request, and refused where it does not fit."""
    urls = {"one": upstream.url, "two": other_upstream.url}
    door = await open_door(going(urls, cap="0.0001"))
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [second(*REST)]

    raw = await (await door.chat(stream=True, max_tokens=20)).read()

    assert not other_upstream.received, raw
    assert "one broke off" in read_events(raw)[-1]["error"]["message"]
    assert len(door.events) == 1
    assert held(door) == []


async def test_what_was_said_counts_against_max_tokens(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The second may say what the first has left."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(*map(delta, PARTS))]
    other_upstream.scripts = [second(*REST)]

    check_is_one(await (await door.chat(stream=True, max_tokens=100)).read())

    said = door.events[0].units["output_text"]
    assert other_upstream.received[0].json["max_tokens"] == 100 - said
    assert door.events[1].max_tokens_sent == 100 - said


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"logprobs": True},
        {"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]},
    ],
)
async def test_what_is_no_plain_text_is_not_gone_on_with(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    other_upstream: ScriptedUpstream,
    fields: dict[str, Any],
) -> None:
    """Such a request ends with an error, as without the switch."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(delta("Hello"))]

    raw = await (await door.chat(stream=True, **fields)).read()

    assert DONE not in raw
    assert not other_upstream.received


async def test_a_call_that_has_begun_is_not_gone_on_with(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Nobody could complete the arguments of somebody else's call."""
    door = await opened(open_door, upstream, other_upstream)
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    begun = event({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    upstream.scripts = [cut(delta("Let me see."), begun)]

    raw = await (await door.chat(stream=True)).read()

    assert "one broke off" in read_events(raw)[-1]["error"]["message"]
    assert not other_upstream.received


async def test_an_answer_that_comes_whole_goes_on(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """An upstream that sends no streams ends it all the same."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(OPENED, *map(delta, PARTS))]
    other_upstream.scripts = [[completion("".join(REST), prompt=40, output=6)]]

    check_is_one(await (await door.chat(stream=True)).read())


async def test_claude_gets_the_beginning_of_its_answer(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A model that takes one goes on without being told to."""
    door = await opened(
        open_door, upstream, other_upstream, kinds={"two": "anthropic"}, names={"two": CLAUDE}
    )
    upstream.scripts = [cut(OPENED, *map(delta, PARTS))]
    other_upstream.scripts = [streamed(*message_events(REST, number=2))]

    check_is_one(await (await door.chat(stream=True)).read())

    last = other_upstream.received[0].json["messages"][-1]
    assert last == {"role": "assistant", "content": [{"type": "text", "text": "".join(PARTS)}]}


async def test_a_translated_first_part(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """The first part may have come in another format."""
    door = await opened(
        open_door, upstream, other_upstream, kinds={"one": "anthropic"}, names={"one": CLAUDE}
    )
    upstream.scripts = [cut(*message_events(PARTS)[:5])]
    other_upstream.scripts = [second(*REST)]

    raw = await (await door.chat(stream=True)).read()

    events = read_events(raw)
    assert text_of(events) == WHOLE
    assert len({(each["id"], each["model"], each["created"]) for each in events}) == 1
    assert raw.endswith(DONE)


async def test_the_openai_sdk_reads_the_whole(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """OpenAI's own client puts it together as one answer."""
    door = await opened(open_door, upstream, other_upstream)
    upstream.scripts = [cut(OPENED, *map(delta, PARTS))]
    other_upstream.scripts = [second(*REST)]
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{door.url}/v1", max_retries=0)

    async with client.chat.completions.stream(
        model="m",
        messages=[{"role": "user", "content": "hi"}],
        stream_options={"include_usage": True},
    ) as stream:
        answer = await stream.get_final_completion()
    await client.close()

    assert answer.id == "chatcmpl-1"
    assert answer.choices[0].message.content == WHOLE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 40


async def test_the_second_part_ends_at_a_cap(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Both parts are under the cap, which ends the second softly, with the usage of both."""
    made = going({"one": upstream.url, "two": other_upstream.url}, cap="0.0008")
    door = await open_door(replace(made, on_exhausted="soft", stream_slice_tokens=16))
    upstream.scripts = [cut(OPENED, *map(delta, PARTS))]
    other_upstream.scripts = [second(*[f" word{number}" for number in range(400)])]

    raw = await (await door.chat(stream=True, stream_options={"include_usage": True})).read()

    *_, last, told = read_events(raw)
    assert last["choices"][0]["finish_reason"] == "length"
    first, rest = door.events
    assert [first.reason_code, rest.reason_code] == ["partial", "stopped_at_cap"]
    assert told["usage"]["completion_tokens"] == (
        first.units["output_text"] + rest.units["output_text"]
    )
    assert first.admission_nano + rest.admission_nano <= 800_000
    assert held(door) == []
