"""A socket between accept and the end of its handshake, on asyncio's own loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import pytest
from fixtures_door import OpenDoor, RunningDoor, settings
from fixtures_tls import Authority
from fixtures_upstream import ScriptedUpstream
from raw_http import answers, close, connect, get, read_one

from proxy.client_connection import Patience


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client of the door has."""
    return ssl.create_default_context(cafile=authority.ca_file)


@pytest.fixture
async def door(
    open_door: OpenDoor, upstream: ScriptedUpstream, authority: Authority
) -> RunningDoor:
    context = authority.server("127.0.0.1")
    patience = Patience(headers_s=0.3)
    return await open_door(settings({"one": upstream.url}), tls=context, patience=patience)


async def test_requests_are_served_over_tls(door: RunningDoor, trusting: ssl.SSLContext) -> None:
    """One connection, several requests, and a close that leaves nothing behind."""
    reader, writer = await connect(door.url, trusting)
    writer.write(get("/v1/models") * 2)

    said = [await read_one(reader), await read_one(reader)]

    await close(writer)
    assert [each.status for each in said] == [200, 200]
    async with asyncio.timeout(5):
        while door.crowd_size:
            await asyncio.sleep(0.01)


async def test_a_request_that_comes_with_the_end_of_the_handshake(
    door: RunningDoor, trusting: ssl.SSLContext
) -> None:
    """The client's last word of the handshake and its first request may be one segment."""
    said = await asyncio.to_thread(in_one_segment, door.url, trusting, get("/v1/models"))

    assert [each.status for each in await answers(said)] == [200]


def in_one_segment(url: str, context: ssl.SSLContext, request: bytes) -> bytes:
    """What is answered to a request that was sent so."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    said = b""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as wire:
        wire.settimeout(5)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.sendall(outgoing.read())
                incoming.write(wire.recv(65536))
        tls.write(request)
        wire.sendall(outgoing.read())
        while b"}]}" not in said:
            incoming.write(wire.recv(65536))
            try:
                said += tls.read(65536)
            except ssl.SSLWantReadError:
                continue
    return said


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_what_is_no_handshake_ends(door: RunningDoor, sent: bytes) -> None:
    """Silence, HTTP, half a hello: closed in the time for headers, its place free again."""
    reader, writer = await connect(door.url)
    writer.write(sent)

    async with asyncio.timeout(3):
        await drained(reader)

    await close(writer)
    assert crowd(door) == 0


async def test_who_leaves_in_the_handshake_leaves_no_place(door: RunningDoor) -> None:
    """A port scan, a health check of a load balancer that only connects."""
    for _ in range(20):
        _, writer = await connect(door.url)
        await close(writer)

    async with asyncio.timeout(3):
        while crowd(door):
            await asyncio.sleep(0.01)


async def test_a_stop_waits_for_no_handshake(door: RunningDoor) -> None:
    """Nothing was asked yet on such a socket: it is closed like an idle one."""
    reader, writer = await connect(door.url)
    while not crowd(door):
        await asyncio.sleep(0.01)
    assert door.runner.server is not None

    door.runner.server.pre_shutdown()

    async with asyncio.timeout(0.2):
        await drained(reader)
    await close(writer)


async def drained(reader: asyncio.StreamReader) -> None:
    """Until the other side has closed, or reset."""
    try:
        await reader.read()
    except ConnectionError:
        return


def crowd(door: RunningDoor) -> int:
    """How many places are taken, those of handshakes too."""
    return len(door.runner._options["crowd"])  # type: ignore[attr-defined]
