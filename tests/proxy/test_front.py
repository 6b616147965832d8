"""Settings replaced under requests: what has begun goes on by the old, what comes meets the new."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
from fixtures_door import KEY, OpenDoor, RunningDoor, settings, tenant
from fixtures_upstream import ScriptedUpstream, completion

from proxy.front import RECEPTION, open_front
from proxy.settings import Settings


def _replace(door: RunningDoor, fresh: Settings) -> None:
    app = door.runner.app
    assert app is not None
    app[RECEPTION].now = open_front(replace(door.door, settings=fresh))


async def test_a_request_keeps_the_front_it_began_with(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Its key is revoked and its model gone while its body is still coming: it is served."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))
    came, go_on = asyncio.Event(), asyncio.Event()

    async def body():  # type: ignore[no-untyped-def]
        yield b'{"model": "m", "messages": [{"role": "user", '
        came.set()
        await go_on.wait()
        yield b'"content": "hi"}]}'

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    url = f"{door.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as http:
        asked = asyncio.ensure_future(http.post(url, data=body(), headers=headers))
        await came.wait()
        while not door.crowd_size:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        nobody = replace(tenant(), keys=())
        _replace(door, replace(door.door.settings, tenants={nobody.id: nobody}, models={}))
        go_on.set()
        answer = await asked
        refused = await door.chat()

    assert answer.status == 200
    assert refused.status == 401


async def test_a_connection_that_was_open_meets_the_new_front(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Keep-alive keeps the connection, not the settings."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))
    before = await door.chat()
    await before.read()
    _replace(door, replace(door.door.settings, models={}))
    after = await door.chat()

    assert (before.status, after.status) == (200, 404)
