"""T-12, T-17 over TLS: sockets that never finish their handshake are in every bound."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from fixtures_door import OpenDoor, settings
from fixtures_tls import Authority
from fixtures_upstream import ScriptedUpstream
from raw_http import close, connect, get, read_one

from proxy.client_connection import Patience
from proxy.crowd import HEALTH_CONNECTIONS
from proxy.settings import Server


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca_file)


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_t12_a_handshake_has_the_deadline_of_headers(
    open_door: OpenDoor, upstream: ScriptedUpstream, authority: Authority, sent: bytes
) -> None:
    """T-12: without a hello, or with a part of one, a socket is closed when headers would be."""
    tls = authority.server("127.0.0.1")
    patience = Patience(headers_s=0.3)
    door = await open_door(settings({"one": upstream.url}), tls=tls, patience=patience)
    before = asyncio.get_running_loop().time()
    reader, writer = await connect(door.url)
    writer.write(sent)

    async with asyncio.timeout(3):
        await ended(reader)

    took_s = asyncio.get_running_loop().time() - before
    await close(writer)
    assert took_s > 0.25


async def test_t12_the_handshake_buys_no_time_for_headers(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    authority: Authority,
    trusting: ssl.SSLContext,
) -> None:
    """T-12: a client that is secured and then silent has what is left of the same seconds."""
    tls = authority.server("127.0.0.1")
    patience = Patience(headers_s=0.5)
    door = await open_door(settings({"one": upstream.url}), tls=tls, patience=patience)
    reader, writer = await connect(door.url, trusting)

    async with asyncio.timeout(3):
        assert await reader.read() == b""

    await close(writer)


async def test_t17_silent_sockets_take_places_and_then_make_way(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    authority: Authority,
    trusting: ssl.SSLContext,
) -> None:
    """T-17: sockets without a hello count; over the bound the oldest of them goes, and an honest
    client is served its health at once."""
    places = 3 + HEALTH_CONNECTIONS
    configured = settings({"one": upstream.url}, server=Server(max_connections=3))
    door = await open_door(configured, tls=authority.server("127.0.0.1"))
    silent = [await connect(door.url) for _ in range(2 * places)]
    for reader, _ in silent[:places]:
        async with asyncio.timeout(3):
            await ended(reader)

    reader, writer = await connect(door.url, trusting)
    writer.write(get("/healthz"))
    said = await read_one(reader)

    for _, each in [*silent, (reader, writer)]:
        await close(each)
    assert said.status == 200


async def ended(reader: asyncio.StreamReader) -> None:
    """Until the other side has closed, or reset."""
    try:
        await reader.read()
    except ConnectionError:
        return
