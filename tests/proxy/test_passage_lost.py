"""Answers that are written anew: what is in them is delivered, or told, and always billed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    body,
    completion,
    event,
    streamed,
)
from format_samples import chat_reader

from metering.clock import monotonic_s
from metering.events import Status
from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.settings import Server, Settings
from routing.health import State

HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/messages": {"max_tokens": 9, "messages": HI},
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
}
ERROR = {"id": "x", "choices": [], "error": {"message": "provider died", "code": 502}}
WORDS = "word " * 200


def made(url: str, *, server: Server | None = None, **fields: Any) -> Settings:
    found = settings({"one": url}, server=server)
    return replace(found, providers={"one": replace(found.providers["one"], **fields)})


async def post(door: RunningDoor, path: str, **fields: Any) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await door.http.post(door.url + path, json={"model": "m", **fields}, headers=headers)
    return answer.status, await answer.read()


def chunk(delta: dict[str, Any], **fields: Any) -> bytes:
    return event({"id": "c", "choices": [{"index": 0, "delta": delta, **fields}]})


THINKING = [
    {"type": "thinking", "thinking": [{"type": "text", "text": WORDS}]},
    {"type": "text", "text": WORDS},
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_content_in_parts_is_metered_and_delivered(
    path: str, open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What Mistral's thinking models say in parts is said in any format, and billed."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    upstream.scripts = [streamed(chunk({"content": THINKING}), FINISH, DONE)]

    limit = {"max_tokens": 500} if path == "/v1/messages" else {}
    _, raw = await post(door, path, stream=True, **{**BODIES[path], **limit})

    assert raw.count(b"word word") >= 2
    counted = door.events[0].counted
    assert min(counted["output_text"], counted["output_reasoning"]) >= 200


async def test_whole_content_in_parts_is_delivered(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The same of an answer that comes in one piece."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    message = {"role": "assistant", "content": [{"type": "text", "text": "the answer"}]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    upstream.scripts = [[body({"id": "c", "choices": [choice]})]]

    _, raw = await post(door, "/v1/messages", max_tokens=50, messages=HI)

    assert b"the answer" in raw


async def test_a_full_answer_that_cannot_be_translated_is_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """More values than are built: the client is told why, pays for it, and nobody is blamed."""
    count, token = 8000, {"token": "a", "tokenId": 5, "logProbability": -0.1}
    logprobs = {
        "topCandidates": [{"candidates": [token] * 20}] * count,
        "chosenCandidates": [token] * count,
    }
    content = {"parts": [{"text": "word " * count}]}
    candidate = {"index": 0, "content": content, "finishReason": "STOP", "logprobsResult": logprobs}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": count, "totalTokenCount": count + 5}
    door = await open_door(made(upstream.url, type="gemini"))
    upstream.scripts = [[body({"candidates": [candidate], "usageMetadata": usage})]]

    for _ in range(5):
        answer = await door.chat(logprobs=True, top_logprobs=20, max_tokens=count)
        told = await answer.json()

    assert answer.status == 502 and "too large" in told["error"]["message"]
    assert door.door.health.state("one/up-m", monotonic_s()) is State.CLOSED
    assert [(each.billable, each.status) for each in door.events] == [(True, Status.TRUNCATED)] * 5
    assert door.events[0].units["output_text"] == count


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "A" * 1_500_000}}
PICTURED = [
    event({"candidates": [{"content": {"parts": [part]}}]}) for part in ({"text": "Here:"}, PICTURE)
]
PICTURE_END = event(
    {
        "candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 5,
            "candidatesTokenCount": 1290,
            "totalTokenCount": 1295,
        },
    }
)


async def test_a_picture_in_a_stream_is_delivered(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Gemini sends a picture in one event, of more than a megabyte."""
    door = await open_door(made(upstream.url, type="gemini"))
    upstream.scripts = [streamed(*PICTURED, PICTURE_END)]

    raw = await (await door.chat(stream=True)).read()

    assert b"data:image/png" in raw and b'"error"' not in raw
    assert door.events[0].units["output_text"] == 1290


@pytest.mark.parametrize("odd", [b"data: {oops\n\n", b"data: [1]\n\n"], ids=["no_json", "a_list"])
async def test_an_event_that_is_not_delivered_is_told(
    odd: bytes, open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream of which a part is missing does not end as if nothing were."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    upstream.scripts = [streamed(chunk({"content": "a"}), odd, FINISH, DONE)]

    _, raw = await post(door, "/v1/messages", stream=True, **BODIES["/v1/messages"])

    assert b'"error"' in raw and b"message_stop" not in raw
    assert door.events[0].status != Status.SUCCESS


async def test_an_event_too_large_to_be_translated_is_our_fault(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Even as the first: it is billed, told in the stream, and not asked for again."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    upstream.scripts = [streamed(chunk({"content": "a" * 1_500_000}), FINISH, DONE)]

    _, raw = await post(door, "/v1/messages", stream=True, **BODIES["/v1/messages"])

    assert b"too large" in raw and b"message_stop" not in raw
    assert len(upstream.received) == 1
    assert door.events[0].billable


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_an_error_in_a_json_answer_after_a_ping_is_told(
    path: str, open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A stream that has begun ends with the error."""
    server = Server(keepalive_after_s=0.05, keepalive_s=0.05)
    door = await open_door(made(upstream.url, server=server))
    upstream.scripts = [[completion()]]
    await (await door.chat()).read()
    upstream.scripts = [[Act.WAIT, body(ERROR)]]
    headers = {"Authorization": f"Bearer {KEY}"}
    asked = {"model": "m", "stream": True, **BODIES[path]}

    answer = await door.http.post(door.url + path, json=asked, headers=headers)  # with the ping
    upstream.proceed.set()

    assert answer.status == 200 and b"error" in await answer.read()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize("answer", [ERROR, {"id": "x", "choices": []}], ids=["error", "empty"])
async def test_an_answer_without_a_choice_is_none(
    path: str, answer: dict[str, Any], open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """With an error or without, nothing is made of it, and nobody pays."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    upstream.scripts = [[body(answer)]]

    status, _ = await post(door, path, **BODIES[path])

    assert status == 502 and not door.events[0].billable


async def test_a_whole_answer_is_read_as_liberally_as_a_stream(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Half a surrogate pair and `-Infinity` are no reason to lose an answer."""
    door = await open_door(made(upstream.url, options={"formats": "openai_chat"}))
    said = b'{"index":0,"message":{"content":"hi \\ud83d"},"finish_reason":"stop"}'
    upstream.scripts = [[body(b'{"id":"c","x":-Infinity,"choices":[%s]}' % said)]]

    status, raw = await post(door, "/v1/messages", **BODIES["/v1/messages"])

    assert status == 200 and "hi \ufffd" in orjson.loads(raw)["content"][0]["text"]


MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
NO_REASON = [
    event({"type": "message_start", "message": MESSAGE}),
    event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}}
    ),
    event({"type": "message_stop"}),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_without_a_reason_to_end_was_cut(
    path: str, open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Where the answer is written anew, a stop that nobody gave is not made up."""
    is_chat = path == "/v1/chat/completions"
    fields: dict[str, Any] = (
        {"type": "anthropic"} if is_chat else {"options": {"formats": "openai_chat"}}
    )
    door = await open_door(made(upstream.url, **fields))
    events = NO_REASON if is_chat else [chunk({"content": "a"}), DONE]
    upstream.scripts = [streamed(*events)]

    _, raw = await post(door, path, stream=True, **BODIES[path])

    assert b'"error"' in raw
    assert door.events[0].status == Status.TRUNCATED


def unread_of(*pieces: bytes) -> int:
    meter = Meter(tokenizer_for("gpt-4o"), 1)
    reader = chat_reader(meter, strip_usage=False)
    for piece in pieces:
        reader.feed(piece)
    return meter.output_tokens * 4


def test_comments_and_blanks_are_nothing_that_was_said() -> None:
    """A gzip bomb of them costs nobody anything, however they are cut; data beside them does."""
    megabyte = 1024 * 1024

    assert unread_of(b":" + b"x" * megabyte, b":" * megabyte, b"\n\n") == 0
    assert unread_of(*[b": keep-alive\n" * 100_000] * 3, b"\n") == 0
    assert unread_of(b"data:" + b" " * megabyte, b" " * megabyte, b"\n\n") < 16
    both = unread_of(b": " + b" " * megabyte + b"\ndata: ", b"x" * megabyte, b"\n\n")
    assert abs(both - megabyte) < 64
