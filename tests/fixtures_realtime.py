"""A provider of realtime sessions on a real socket, and a way in through the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType, web
from fixtures_door import KEY, OpenDoor, RunningDoor, rule, tenant, usd
from passthrough_samples import passing_settings, terms

from metering.events import UsageEvent
from proxy.passthrough_rules import Passthrough, Terms

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
