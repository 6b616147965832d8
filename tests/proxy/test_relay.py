"""Streams on their way to the client: cut, ended oddly, abandoned, drained; billed once."""

from __future__ import annotations

import asyncio

import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, held, settings
from fixtures_upstream import (
    DONE,
    FINISH,
    Act,
    ScriptedUpstream,
    chunk,
    completion,
    delta,
    stream_head,
    streamed,
    usage_event,
)
from format_samples import chat_reader

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.client_connection import Patience
from proxy.door import Lifecycle
from proxy.relay import StreamRelay
from routing.fallback import FALLS_BACK, Outcome

CUTS = {
    "reset": [stream_head(), chunk(delta("Hello world")), Act.RESET],
    "closed": [stream_head(), chunk(delta("Hello world")), Act.CLOSE],
    "close_delimited": [
        b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n",
        delta("Hello world"),
        Act.CLOSE,
    ],
    "stalled": [stream_head(), chunk(delta("Hello world")), Act.HANG],
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_cut_stream_is_billed_and_told(
    open_door: OpenDoor, upstream: ScriptedUpstream, name: str
) -> None:
    """After the first byte a break is told in-band, without `[DONE]`, and billed as counted."""
    door = await open_door(settings({"one": upstream.url}, timeout_s=0.2))
    upstream.scripts = [CUTS[name]]

    answer = await door.chat(stream=True)
    received = await answer.read()

    assert received.startswith(delta("Hello world"))
    code = b"upstream_timeout" if name == "stalled" else b"upstream_error"
    assert b'"code":"%s"' % code in received
    assert DONE not in received
    event = door.events[0]
    assert (event.status, event.reason_code, event.billable) == ("truncated", "partial", True)
    assert event.units["output_text"] == 2
    assert event.usage_source == "counted"


async def test_a_stream_cut_before_its_first_event_falls_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Headers are no byte for the client: a stream that dies before an event is tried elsewhere."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [[stream_head(), chunk(b"data: {"), Act.CLOSE]]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_nonsense_as_first_event_falls_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """An event that is no JSON is no answer, and would end the client's SDK with an exception."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [streamed(b"data: {broken\n\n", delta("a"), FINISH, DONE)]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_an_error_as_first_event_falls_back(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """A 200 whose first event is an error is a failure, not an answer."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [streamed(b'data: {"error": {"message": "overloaded"}}\n\n')]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_no_done_is_an_end_when_finished(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """A server that sends no `[DONE]` but a finish reason has ended its stream."""
    upstream.scripts = [streamed(delta("Hello world"), FINISH)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("Hello world") + FINISH
    assert door.events[0].status == "success"


async def test_zero_usage_with_content_is_suspect(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-58: content with a usage of zero is billed by our count and flagged."""
    upstream.scripts = [streamed(delta("Hello world"), FINISH, usage_event(10, 0), DONE)]

    await (await door.chat(stream=True)).read()

    event = door.events[0]
    assert event.units["output_text"] == 2
    assert event.usage_suspect is not None
    assert event.usage_source == "mixed"


async def test_json_where_a_stream_was_asked_for(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-28: the answer of a server that ignores `stream` is metered, and streamed to the client."""
    upstream.scripts = [[completion(prompt=1, output=1)]]

    answer = await door.chat(stream=True)

    raw = await answer.read()
    assert raw.endswith(b"data: [DONE]\n\n")
    assert b'"object":"chat.completion.chunk"' in raw
    assert door.events[0].units["output_text"] == 1


@pytest.mark.parametrize("sent", [[delta("Hello world")], []], ids=["in_stream", "before_it"])
async def test_a_client_that_leaves_stops_the_upstream(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    sent: list[bytes],
) -> None:
    """T-59: when the client leaves, the upstream is stopped and what was counted is billed."""
    door = await open_door(settings({"one": upstream.url}))
    upstream.scripts = [[stream_head(), *map(chunk, sent), Act.HANG]]

    asking = asyncio.ensure_future(door.chat(stream=True))
    if sent:
        await (await asking).content.readany()
    else:
        while not upstream.received:
            await asyncio.sleep(0)
        asking.cancel()
    await door.http.close()
    await upstream.left.wait()
    while not door.events:
        await asyncio.sleep(0)

    event = door.events[0]
    assert (event.status, event.client_disconnected) == ("cancelled", True)
    assert event.units.get("output_text", 0) == (2 if sent else 0)
    assert event.units["input_uncached"] > 0
    assert event.billable
    assert held(door) == []


async def test_a_client_that_leaves_a_server_that_does_not_cancel(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Without handler cancellation the next write finds out; it is billed the same."""
    door = await open_door(settings({"one": upstream.url}), cancels=False)
    endless = [chunk(delta("Hello world ") * 50) for _ in range(400)]
    upstream.scripts = [[stream_head(), chunk(delta("first")), Act.WAIT, *endless, Act.HANG]]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    answer.close()
    await door.http.close()
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0)

    assert (door.events[0].status, door.events[0].client_disconnected) == ("cancelled", True)
    assert held(door) == []


async def test_draining_reads_on_for_the_meter(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """`on_disconnect: drain`: the client has left, the provider's own usage is still learnt."""
    from proxy.settings import Server

    door = await open_door(settings({"one": upstream.url}, server=Server(on_disconnect="drain")))
    upstream.scripts = [
        [
            stream_head(),
            chunk(delta("Hello world")),
            Act.WAIT,
            *map(chunk, [delta(" again"), FINISH, usage_event(10, 3), DONE]),
            b"0\r\n\r\n",
        ]
    ]

    answer = await door.chat(stream=True)
    await answer.content.readany()
    answer.close()
    await door.http.close()
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0)

    assert door.events[0].units["output_text"] == 3
    assert door.events[0].usage_source == "provider"


def encoded(head: bytes, kind: str) -> bytes:
    return head.replace(b"text/event-stream", kind.encode())


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "text/plain; charset=utf-8"])
async def test_a_stream_by_another_name(
    door: RunningDoor, upstream: ScriptedUpstream, kind: str
) -> None:
    """A stream is a stream however its type is written; it is not bought a second time."""
    head, *rest = streamed(delta("a"), FINISH, DONE)
    assert isinstance(head, bytes)
    upstream.scripts = [[encoded(head, kind), *rest]]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("a") + FINISH + DONE


async def test_an_encoded_answer_is_nonsense(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """T-28: a compressed answer to a request for a plain one is not passed on as text."""
    door = await open_door(settings({"one": upstream.url, "two": other_upstream.url}))
    upstream.scripts = [[stream_head("Content-Encoding: gzip\r\n"), chunk(b"\x1f\x8b"), Act.CLOSE]]
    other_upstream.scripts = [streamed(delta("b"), FINISH, DONE)]

    answer = await door.chat(stream=True)

    assert await answer.read() == delta("b") + FINISH + DONE


async def test_a_client_that_never_reads_is_let_go(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-16: without progress a client's stream ends, its upstream is stopped, and it is billed."""
    door = await open_door(settings({"one": upstream.url}), patience=Patience(write_s=0.2))
    flood = chunk(delta("word " * 4000))
    upstream.scripts = [[stream_head(), *([flood] * 600), Act.HANG]]
    host, _, port = door.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = b'{"model":"m","messages":[],"stream":true}'
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )

    while not door.events:
        await asyncio.sleep(0.01)

    assert (door.events[0].status, door.events[0].billable) == ("cancelled", True)
    writer.close()


class CutAnswer:
    """An answer whose reader is cancelled while it waits for the first byte."""

    status = 200

    def header(self, name: str) -> str | None:
        return None

    async def chunk(self) -> bytes:
        raise asyncio.CancelledError

    async def read(self, limit: int) -> bytes:
        raise asyncio.CancelledError

    def close(self) -> None:
        pass


class NoClient:
    """A client that nothing reaches."""

    async def start_stream(self, headers: object) -> None:
        raise AssertionError("nothing was to be sent")

    async def send(self, data: bytes) -> None:
        raise AssertionError("nothing was to be sent")


@pytest.mark.parametrize(
    ("is_stopping", "outcome"), [(True, Outcome.TRUNCATED), (False, Outcome.CLIENT_GONE)]
)
async def test_what_is_cancelled_before_a_byte_is_tried_nowhere_else(
    *, is_stopping: bool, outcome: Outcome
) -> None:
    """A stop and a client that left both end the exchange: no other upstream is asked."""
    relay = StreamRelay(
        CutAnswer(),
        chat_reader(Meter(tokenizer_for("gpt-4o"), 1), strip_usage=True),
        bytes_max=1000,
        drains=lambda: False,
        begin=dict,
        lifecycle=Lifecycle(is_stopping=is_stopping),
    )

    relayed = await relay.run(NoClient())

    assert relayed.outcome is outcome
    assert relayed.outcome not in FALLS_BACK
    assert relayed.is_client_gone is not is_stopping
