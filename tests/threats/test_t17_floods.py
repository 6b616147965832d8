"""T-17 to T-19: too many connections, requests, or streams that are opened only to be cut."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from fixtures_door import OpenDoor, RunningDoor, held, settings
from fixtures_needs import need
from fixtures_upstream import Act, ScriptedUpstream, chunk, delta, stream_head
from fixtures_weir import COMMAND, Weir, serving
from raw_http import STREAM, close, connect, get, one, post, read_one

from proxy.client_connection import QUEUED_REQUESTS_MAX, Patience
from proxy.crowd import HEALTH_CONNECTIONS
from proxy.settings import Server

Connections = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_t17_over_the_bound_only_health_is_answered(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-17: who is one too many is told so at once; somebody who leaves makes room again."""
    door = await open_door(settings({"one": upstream.url}, server=Server(max_connections=3)))
    idle = await asking(door, 3)

    refused, health = await one(door.url, get("/v1/models")), await one(door.url, HEALTH)
    async with asyncio.timeout(5):
        while door.crowd_size > 3:
            await asyncio.sleep(0.01)
    others = await asking(door, HEALTH_CONNECTIONS, HEALTH)
    others.append(await connect(door.url))
    unasked = await read_one(others[-1][0])
    for _, writer in [*others, *idle]:
        await close(writer)
    async with asyncio.timeout(5):
        while (again := await one(door.url, get("/v1/models"))).status == 503:
            await asyncio.sleep(0.01)

    assert (refused.status, refused.code, refused.headers["connection"]) == (
        503,
        "overloaded",
        "close",
    )
    assert (health.status, unasked.status, unasked.code) == (200, 503, "overloaded")
    assert again.status == 200


async def asking(door: RunningDoor, count: int, raw: bytes = b"") -> Connections:
    """Connections that were served once and stay."""
    opened = [await connect(door.url) for _ in range(count)]
    for reader, writer in opened:
        writer.write(raw or get("/v1/models"))
        assert (await read_one(reader)).status == 200
    return opened


async def test_t17_silent_sockets_do_not_keep_health_out(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-17: with every place taken by who says nothing, or half a request, each health check is
    answered: the oldest of them goes."""
    door = await open_door(settings({"one": upstream.url}, server=Server(max_connections=3)))
    silent = [await connect(door.url) for _ in range(3 + HEALTH_CONNECTIONS)]
    for _, writer in silent[::2]:
        writer.write(b"GET /v1/mod")

    checks = [(await one(door.url, HEALTH)).status for _ in range(10)]

    for _, writer in silent:
        await close(writer)
    assert checks == [200] * 10


async def test_t17_one_address_may_have_a_bound(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-17: `server.max_connections_per_ip` keeps one host from taking all the places."""
    server = Server(max_connections_per_ip=2)
    door = await open_door(settings({"one": upstream.url}, server=server))
    opened = [await connect(door.url) for _ in range(3)]

    refused = await read_one(opened[-1][0])

    assert (refused.status, refused.code) == (503, "overloaded")
    for _, writer in opened:
        await close(writer)


async def test_t17_pipelined_requests_wait_in_the_network(door: RunningDoor) -> None:
    """T-17: 50,000 requests at once: two are parsed ahead, the rest is left to the sender."""
    reader, writer = await connect(door.url)
    sent = asyncio.create_task(flood(writer, get("/v1/models") * 50_000))
    first = await read_one(reader)
    [connection] = door.runner.server.connections  # type: ignore[union-attr]

    waiting = len(connection._messages)
    was_stopped = not sent.done()

    sent.cancel()
    await close(writer)
    assert first.status == 200
    assert waiting <= QUEUED_REQUESTS_MAX
    assert was_stopped


async def test_t17_what_is_pipelined_behind_a_stream_costs_little(
    door: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-17: behind a stream that goes on, requests with as many headers as there may be wait in
    the network: what is parsed ahead of each connection is bounded."""
    upstream.scripts = [ENDLESS]
    headers = b"".join(b"X-%d: %s\r\n" % (at, b"a" * 500) for at in range(120))
    waiting = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"
    reader, writer = await connect(door.url)
    writer.write(post(STREAM))
    await reader.readuntil(b"Hello")
    [connection] = door.runner.server.connections  # type: ignore[union-attr]

    flooding = asyncio.create_task(flood(writer, waiting * 400))
    await asyncio.sleep(0.3)

    queued = len(connection._messages)
    was_stopped = not flooding.done()
    flooding.cancel()
    await close(writer)
    assert (queued, was_stopped) == (QUEUED_REQUESTS_MAX, True)


async def flood(writer: asyncio.StreamWriter, raw: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(raw), 65536):
            writer.write(raw[at : at + 65536])
            await writer.drain()


async def test_t17_idle_connections_go(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """T-17: a connection that has served once is not kept for what may never come."""
    door = await open_door(settings({"one": upstream.url}), patience=Patience(idle_s=0.2))
    opened = [await connect(door.url) for _ in range(50)]
    for _, writer in opened:
        writer.write(get("/v1/models"))

    served = [(await read_one(reader)).status for reader, _ in opened]
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*(reader.read() for reader, _ in opened))

    assert served == [200] * 50
    assert ends == [b""] * 50
    for _, writer in opened:
        await close(writer)


ENDLESS = [stream_head(), chunk(delta("Hello")), Act.HANG]


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
async def test_t18_a_thousand_streams_opened_and_cut(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-18: each is billed for what it got; no hold, upstream socket or connection is left."""
    upstream.scripts = [ENDLESS]
    door = await open_door(settings({"one": upstream.url}))
    rounds, at_once = 10, 100

    async def open_and_cut() -> None:
        reader, writer = await connect(door.url)
        writer.write(post(STREAM))
        await reader.readuntil(b"Hello")
        writer.transport.abort()
        await close(writer)

    before = time.perf_counter()
    for _ in range(rounds):
        await asyncio.gather(*(open_and_cut() for _ in range(at_once)))
    took_s = time.perf_counter() - before
    async with asyncio.timeout(5):
        while len(door.events) < rounds * at_once or upstream.serving or door.crowd_size:
            await asyncio.sleep(0.01)

    print(f"{rounds * at_once / took_s:.0f} streams a second were opened and cut")
    assert {event.status for event in door.events} == {"cancelled"}
    assert all(event.billable and event.admission_nano for event in door.events)
    assert len({event.exchange_id for event in door.events}) == rounds * at_once
    assert "held" not in held(door)
    assert len(door.renewals) == 0


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
async def test_t19_a_process_without_files_says_so_and_recovers(tmp_path: Path) -> None:
    """T-19: with 256 files and 400 clients the process lives, health answers, logs stay short."""
    need("redis-server")
    limited = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *COMMAND]
    with serving(tmp_path, settles=False, program=limited) as weir:
        idle = [await connect(weir.url) for _ in range(400)]
        async with asyncio.timeout(8):  # the idle ones are cut after 10 s
            while not await is_alive(weir):
                await asyncio.sleep(0.1)
        for _, writer in idle:
            await close(writer)
        async with asyncio.timeout(5):
            while not await is_alive(weir):
                await asyncio.sleep(0.1)

        log = (tmp_path / "serve.log").read_text()
        assert weir.process.poll() is None

    assert "Traceback" not in log and "EMFILE" not in log
    assert len(log.splitlines()) < 50


async def is_alive(weir: Weir) -> bool:
    try:
        return (await one(weir.url, HEALTH)).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False  # refused before it could ask
