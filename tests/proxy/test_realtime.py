"""Realtime sessions on real sockets: relayed both ways, metered, held, ended by cap and flag."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
from aiohttp import web
from fixtures_door import KEY, OpenDoor, RunningDoor, held, rule, tenant
from fixtures_realtime import (
    ScriptedSession,
    connect,
    done,
    echo,
    open_session,
    per_session,
    the_event,
)
from passthrough_samples import passing_settings, terms

from metering.caps import Denial, DenialReason
from routing.upstreams import Model, Upstream


async def test_messages_pass_both_ways_unchanged(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """Text, binary and a large message arrive as they were sent, in order."""
    provider.script = echo
    door = await open_session(open_door, provider)
    sent = ['{ "type" : "session.update" }', "ä\u2028", "x" * 3_000_000]

    async with connect(door) as socket:
        for text in sent:
            await socket.send_str(text)
        await socket.send_bytes(b"\x00\xff")
        received = [await socket.receive_str() for _ in sent]
        binary = await socket.receive_bytes()

    assert (received, binary) == (sent, b"\x00\xff")
    headers = provider.requests[0].headers
    assert headers["OpenAI-Beta"] == "realtime=v1"
    assert "sk-weir" not in headers["Authorization"]
    made = await the_event(door)
    assert (made.reason_code, made.admission_nano) == ("served", 0)
    assert held(door) == []


async def test_a_flag_ends_it(open_door: OpenDoor, provider: ScriptedSession) -> None:
    """Paused or killed, it ends at once and what was used is recorded."""

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(done(100, 100))
        await echo(socket)

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        await socket.receive_str()
        (open_one,) = door.renewals.open
        open_one.stop(Denial(DenialReason.KILLED))
        error = orjson.loads(await socket.receive_str())
        await socket.receive()

    assert error["error"]["code"] == "tenant_killed"
    made = await the_event(door)
    assert (made.reason_code, made.admission_nano) == ("stopped_by_flag", 5_000_000)


async def test_a_client_that_vanishes_is_settled(
    open_door: OpenDoor, provider: ScriptedSession, handler_cancellation: bool
) -> None:
    """Without a closing handshake, too: the provider's session ends, what was used is billed."""
    left = asyncio.Event()

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(done(100, 100))
        await echo(socket)
        left.set()

    provider.script = script
    configured = passing_settings(
        provider.url, passthrough=per_session(), rules=(rule("gpt-realtime", per_mtok="10.00"),)
    )
    door = await open_door(configured, cancels=handler_cancellation)
    socket = await connect(door)
    await socket.receive_str()
    transport = socket.get_extra_info("socket") and socket._response.connection.transport
    transport.abort()

    await left.wait()
    made = await the_event(door)

    assert made.admission_nano == 5_000_000
    assert held(door) == []


async def test_a_provider_that_breaks_off(open_door: OpenDoor, provider: ScriptedSession) -> None:
    """The client is told, and what was used before is billed."""

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(done(100, 100))
        assert socket._req is not None
        assert socket._req.transport is not None
        await asyncio.sleep(0)
        await socket.send_str("{}")
        socket._req.transport.close()

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        messages = [orjson.loads(message.data) async for message in socket]

    assert messages[-1]["error"]["code"] == "upstream_error"
    made = await the_event(door)
    assert (made.reason_code, made.admission_nano) == ("partial", 5_000_000)


async def refused(door: RunningDoor, query: str = "?model=gpt-realtime") -> tuple[int, str]:
    answer = await door.http.get(
        f"{door.url}/v1/realtime{query}",
        headers={
            "Authorization": f"Bearer {KEY}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    return answer.status, (await answer.json())["error"]["code"]


async def test_what_is_refused_is_refused_in_http(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """Without a hold, without a price, by the list of models, by the query: nothing is opened."""
    provider.script = echo
    unheld = await open_session(open_door, provider, passthrough=terms())
    unpriced = await open_session(open_door, provider)
    listed = await open_door(
        passing_settings(
            provider.url,
            passthrough=per_session(),
            who=replace(tenant(cap=None), models=frozenset({"m"})),
        )
    )

    assert await refused(unheld) == (403, "path_not_held")
    assert await refused(unpriced, "?model=other") == (400, "model_not_priced")
    assert await refused(listed) == (403, "model_not_allowed")
    assert await refused(unpriced, "?model=gpt-realtime&call_id=x") == (400, None)
    assert provider.requests == []


async def test_no_upgrade(open_door: OpenDoor, provider: ScriptedSession) -> None:
    """A plain GET is told what to send."""
    door = await open_session(open_door, provider)

    answer = await door.http.get(
        f"{door.url}/v1/realtime", headers={"Authorization": f"Bearer {KEY}"}
    )

    assert answer.status == 400
    assert "Upgrade: websocket" in (await answer.json())["error"]["message"]


async def test_a_provider_that_refuses(open_door: OpenDoor, provider: ScriptedSession) -> None:
    """Its refusal becomes an answer in HTTP, nothing is billed and nothing stays held."""
    provider.refuses = 401
    door = await open_session(open_door, provider)

    assert await refused(door) == (502, "upstream_auth")
    assert [made.billable for made in door.events] == [False]
    assert held(door) == []


async def test_a_model_of_ours_goes_by_its_name_there(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """The upstream's name stands in the query there, and in the event."""
    provider.script = echo
    models = {"voice": Model("voice", (Upstream("one", "gpt-realtime", "voice"),))}
    door = await open_session(open_door, provider, models=models)

    async with connect(door, "?model=voice") as socket:
        await socket.send_str("{}")
        await socket.receive_str()

    assert provider.requests[0].query["model"] == "gpt-realtime"
    made = await the_event(door)
    assert (made.model_requested, made.model_upstream) == ("voice", "gpt-realtime")


async def test_a_client_that_reads_nothing_stops_the_provider(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """The provider is not read on while the client takes nothing; memory stays bounded."""
    sent = 0

    async def script(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        for _ in range(200):
            await socket.send_str("x" * 1_000_000)
            sent += 1

    provider.script = script
    door = await open_session(open_door, provider)
    socket = await connect(door)
    socket._response.connection.transport.pause_reading()
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.3)

    assert sent < 100
    socket._response.connection.transport.abort()
    await the_event(door)
