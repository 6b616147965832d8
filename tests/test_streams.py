"""Streams that are silent, late or stalled, end to end: what the client sees, what it costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
from fixtures_door import KEY, OpenDoor, held, settings, tenant
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

from proxy.settings import Server, Settings
from routing.upstreams import Model, Upstream

PING = b": keepalive\n\n"
REST = FINISH + usage_event(10, 2) + DONE


def tuned(urls: dict[str, str], server: Server | None = None, **bounds: Any) -> Settings:
    """Settings whose providers have these bounds."""
    made = settings(urls, server=server)
    providers = {name: replace(each, **bounds) for name, each in made.providers.items()}
    return replace(made, providers=providers)


async def test_a_client_of_a_silent_stream_is_kept(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Before the first event and between two: comments, and nothing in the middle of an event."""
    server = Server(keepalive_after_s=0.05, keepalive_s=0.05)
    door = await open_door(tuned({"one": upstream.url}, server))
    upstream.scripts = [
        [Act.WAIT, stream_head(), chunk(delta("Hello")), Act.WAIT, chunk(REST), chunk(b"")]
    ]

    answer = await door.chat(stream=True)
    first = await answer.content.readexactly(len(PING))
    upstream.proceed.set()
    rest = b""
    while b"Hello" not in rest:
        rest += await answer.content.readany()
    while not rest.endswith(PING):
        rest += await answer.content.readany()
    upstream.proceed.set()
    rest += await answer.read()

    assert first == PING
    assert rest.replace(PING, b"") == delta("Hello") + FINISH + DONE
    assert door.events[0].units["output_text"] == 2
    assert held(door) == []


async def test_a_ping_does_not_decide_who_answers(
    open_door: OpenDoor, upstream: ScriptedUpstream, other_upstream: ScriptedUpstream
) -> None:
    """Until the first event another upstream may still answer, and does."""
    server = Server(keepalive_after_s=0.03, keepalive_s=0.03)
    urls = {"one": upstream.url, "two": other_upstream.url}
    door = await open_door(tuned(urls, server, first_event_timeout_s=0.2))
    upstream.scripts = [[stream_head(), chunk(b": processing\n\n"), Act.HANG]]
    other_upstream.scripts = [streamed(delta("Hello"), REST)]

    answer = await door.chat(stream=True)
    raw = await answer.read()

    assert raw.startswith(PING)
    assert b": processing" not in raw
    assert raw.endswith(delta("Hello") + FINISH + DONE)
    assert [(each.status, each.provider) for each in door.events] == [
        ("error", "one"),
        ("success", "two"),
    ]
    assert door.events[1].fallback_reason == "timeout"


async def test_an_error_after_a_ping_comes_in_band(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The status is long sent; what the upstream said is told all the same."""
    door = await open_door(
        tuned({"one": upstream.url}, Server(keepalive_after_s=0.03, keepalive_s=5))
    )
    body = b'{"error":{"message":"no such thing","type":"invalid_request_error","code":"x"}}'
    head = b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    upstream.scripts = [[Act.WAIT, head % len(body) + body]]

    answer = await door.chat(stream=True)
    assert await answer.content.readexactly(len(PING)) == PING
    upstream.proceed.set()
    rest = await answer.read()

    error = orjson.loads(rest.removeprefix(b"data: "))["error"]
    assert (answer.status, error["message"], error["code"]) == (200, "no such thing", "x")
    assert DONE not in rest


async def test_a_stalled_stream_ends_although_comments_come(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream's own keepalives say nothing: what counts is the time between two events."""
    door = await open_door(tuned({"one": upstream.url}, stall_timeout_s=0.3))
    comments = [step for _ in range(60) for step in (chunk(b": ping\n\n"), Act.PAUSE)]
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), *comments, Act.HANG]]

    async with asyncio.timeout(5):
        raw = await (await door.chat(stream=True)).read()

    assert raw.startswith(delta("Hello"))
    assert DONE not in raw
    assert b'"code":"upstream_timeout"' in raw
    assert b"providers.*.stall_timeout_s" in raw
    assert (door.events[0].status, door.events[0].billable) == ("truncated", True)
    assert held(door) == []


async def test_a_whole_answer_after_a_ping_is_streamed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """An upstream that knows no streams answers a client that asked for one."""
    door = await open_door(
        tuned({"one": upstream.url}, Server(keepalive_after_s=0.03, keepalive_s=5))
    )
    upstream.scripts = [[Act.WAIT, completion("Hello", prompt=3, output=1)]]

    answer = await door.chat(stream=True, stream_options={"include_usage": True})
    assert await answer.content.readexactly(len(PING)) == PING
    upstream.proceed.set()
    rest = await answer.read()

    assert b'"delta":{' in rest
    assert b'"content":"Hello"' in rest
    assert b'"usage":{"prompt_tokens":3,"completion_tokens":1' in rest
    assert rest.endswith(DONE)


@pytest.mark.parametrize(("route", "status"), [(True, "success"), (False, "cancelled")])
async def test_a_route_says_what_happens_when_its_client_leaves(
    open_door: OpenDoor, upstream: ScriptedUpstream, route: bool, status: str
) -> None:
    """`models.NAME.on_disconnect` goes before the server's."""
    server = Server(on_disconnect="abort" if route else "drain")
    made = settings({"one": upstream.url}, server=server)
    model = Model("m", (Upstream("one", "up-m", "m"),), drains=route)
    door = await open_door(replace(made, models={"m": model}))
    upstream.scripts = [[stream_head(), chunk(delta("Hello")), Act.WAIT, chunk(REST), chunk(b"")]]

    async with aiohttp.ClientSession() as http:
        answer = await http.post(
            f"{door.url}/v1/chat/completions",
            json={"model": "m", "messages": [], "stream": True},
            headers={"Authorization": f"Bearer {KEY}"},
        )
        await answer.content.readany()
        answer.close()
    upstream.proceed.set()

    async with asyncio.timeout(5):
        while not door.events:
            await asyncio.sleep(0.01)
    assert door.events[0].status == status


async def test_a_slow_client_does_not_make_its_upstream_late(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """While a client does not read nobody asks the upstream for more, so it owes nothing."""
    made = tuned({"one": upstream.url}, stall_timeout_s=0.3)
    rich = tenant(cap=None)
    door = await open_door(replace(made, tenants={rich.id: rich}))
    upstream.scripts = [
        [stream_head(), *[chunk(delta("w" * 100_000))] * 60, chunk(FINISH + DONE), chunk(b"")]
    ]
    asked = orjson.dumps({"model": "m", "stream": True, "messages": []})
    host, _, port = door.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)

    await asyncio.sleep(1.2)
    raw = b""
    async with asyncio.timeout(25):
        while DONE not in raw:
            raw = raw[-100:] + await reader.read(65_536)
    writer.close()

    assert door.events[0].status == "success"
