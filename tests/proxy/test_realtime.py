"""Realtime sessions on real sockets: relayed both ways, metered, held, ended by cap and flag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web
from fixtures_door import KEY, OpenDoor, RunningDoor, held, rule, tenant, usd
from passthrough_samples import passing_settings, terms

from metering.caps import Denial, DenialReason
from metering.events import UsageEvent
from proxy.passthrough_rules import Passthrough, Terms
from routing.upstreams import Model, Upstream

Script = Callable[[web.WebSocketResponse], Awaitable[None]]


@dataclass
class ScriptedSession:
    """A provider that does what `script` says with each session."""

    script: Script | None = None
    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    refuses: int | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.refuses is not None:
            return web.Response(status=self.refuses)
        socket = web.WebSocketResponse(protocols=("realtime",), max_msg_size=32 * 1024 * 1024)
        await socket.prepare(request)
        assert self.script is not None
        await self.script(socket)
        return socket


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedSession]:
    scripted = ScriptedSession()
    app = web.Application()
    app.router.add_get("/v1/realtime", scripted.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


def done(inputs: int, outputs: int, **usage: Any) -> str:
    said = {"input_tokens": inputs, "output_tokens": outputs, **usage}
    return orjson.dumps({"type": "response.done", "response": {"usage": said}}).decode()


def per_session(hold: str = "0.10") -> Passthrough:
    return terms(terms={"realtime": Terms(usd(hold))})


async def open_session(
    open_door: OpenDoor, provider: ScriptedSession, *, cap: str | None = "10.00", **fields: Any
) -> RunningDoor:
    passthrough = fields.pop("passthrough", per_session())
    configured = passing_settings(
        provider.url,
        who=tenant(cap=cap),
        passthrough=passthrough,
        rules=(rule("gpt-realtime", per_mtok="10.00"),),
        **fields,
    )
    return await open_door(configured)


def connect(door: RunningDoor, query: str = "?model=gpt-realtime") -> Any:
    return door.http.ws_connect(
        f"{door.url}/v1/realtime{query}",
        headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "realtime=v1"},
        max_msg_size=32 * 1024 * 1024,
    )


async def the_event(door: RunningDoor) -> UsageEvent:
    while not door.events:
        await asyncio.sleep(0.005)
    (made,) = door.events
    return made


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)


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


async def test_responses_are_metered_by_class(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """What each response used is summed, each token in one class."""

    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(
            done(
                132,
                121,
                input_token_details={
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
                },
                output_token_details={"text_tokens": 30, "audio_tokens": 91},
            )
        )
        await socket.send_str(done(10, 5))
        await socket.close()

    provider.script = script
    door = await open_session(open_door, provider)

    async with connect(door) as socket:
        messages = [message.type async for message in socket]

    assert messages == [WSMsgType.TEXT] * 2
    made = await the_event(door)
    tokens = {unit: count for unit, count in made.units.items() if "put_" in unit}
    assert tokens == {
        "input_uncached": 59 + 10,
        "input_cache_read": 64,
        "input_audio": 9,
        "output_text": 30 + 5,
        "output_audio": 91,
    }
    assert made.usage_source == "provider"
    assert made.model_upstream == "gpt-realtime"
    assert made.admission_nano == (142 * 10 + 126 * 40) * 1000


async def test_a_session_ends_where_its_hold_cannot_grow(
    open_door: OpenDoor, provider: ScriptedSession
) -> None:
    """It goes on while the cap has room, slice by slice; then it ends and says why."""

    async def script(socket: web.WebSocketResponse) -> None:
        for _ in range(100):  # each costs $0.04
            await socket.send_str(done(0, 1000))
        await echo(socket)

    provider.script = script
    door = await open_session(open_door, provider, cap="1.00")

    async with connect(door) as socket:
        messages = [orjson.loads(message.data) async for message in socket]
        code = socket.close_code

    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"]["code"] == "insufficient_quota"
    assert code == aiohttp.WSCloseCode.POLICY_VIOLATION
    made = await the_event(door)
    assert made.reason_code == "stopped_at_cap"
    assert made.admission_nano <= usd("1.00")
    assert made.admission_nano >= usd("0.80")
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
