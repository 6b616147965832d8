"""T-12, T-16: who is slow with a request, or takes nothing of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, held, settings
from fixtures_upstream import Act, ScriptedUpstream, chunk, completion, delta, stream_head
from raw_http import BEARER, CHAT, STREAM, close, connect, get, post, read_one

from proxy.client_connection import PATIENCE, Patience

HURRIED = Patience(
    idle_s=5.0, headers_s=0.3, body_grace_s=0.3, body_s=0.6, write_s=0.3, linger_s=0.1
)
"""Deadlines that can be waited for; the rules are those of `PATIENCE`."""

HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{BEARER}"


def test_t12_nobody_is_waited_for_longer_than_is_written() -> None:
    """T-12: headers 10 s, a body 30 s or 1 KiB/s after 10 s, a reader 30 s: docs/http.md."""
    assert Patience(75.0, 10.0, 10.0, 30.0, 30.0, 5.0) == PATIENCE


@pytest.fixture
async def hurried(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    return await open_door(settings({"one": upstream.url}), patience=HURRIED)


async def drip(writer: asyncio.StreamWriter, data: bytes, every_s: float) -> None:
    """One byte at a time, until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every_s)


HEADERS = {
    "half_a_line": "POST /v1/ch",
    "a_line": "POST /v1/models HTTP/1.1\r\n",
    "some_headers": f"{HEAD}X-A: b\r\n",
}


@pytest.mark.parametrize("name", HEADERS)
async def test_t12_headers_that_stop_are_408(hurried: RunningDoor, name: str) -> None:
    """T-12: a request that is never finished is told so, and closed."""
    reader, writer = await connect(hurried.url)
    writer.write(HEADERS[name].encode())

    said = await read_one(reader)

    assert (said.status, said.code, said.headers["connection"]) == (408, "request_timeout", "close")
    assert await reader.read() == b""
    await close(writer)


async def test_t12_headers_that_drip_are_408(hurried: RunningDoor) -> None:
    """T-12: the deadline is absolute; steady bytes do not move it."""
    reader, writer = await connect(hurried.url)
    dripping = asyncio.create_task(drip(writer, b"GET /" + b"a" * 2000, 0.01))

    said = await read_one(reader)

    dripping.cancel()
    await close(writer)
    assert said.status == 408


async def test_t12_a_connection_that_says_nothing_is_closed(hurried: RunningDoor) -> None:
    """T-12: silence gets silence."""
    reader, writer = await connect(hurried.url)

    assert await reader.read() == b""
    await close(writer)


async def test_t12_a_second_request_has_the_same_deadline(hurried: RunningDoor) -> None:
    """T-12: a connection that has served is not trusted more; between requests it may rest."""
    reader, writer = await connect(hurried.url)
    writer.write(get("/v1/models"))
    first = await read_one(reader)
    await asyncio.sleep(2 * HURRIED.headers_s)
    writer.write(get("/v1/models") + b"GET /v1/mod")
    second, late = await read_one(reader), asyncio.create_task(read_one(reader))
    writer.write(b"e")

    assert [first.status, second.status, (await late).status] == [200, 200, 408]
    await close(writer)


BODIES = {
    "no_body": "Content-Length: 100\r\n\r\n",
    "half_a_body": "Content-Length: 100\r\n\r\n{",
    "no_chunk": "Transfer-Encoding: chunked\r\n\r\n",
    "half_a_chunk": "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@pytest.mark.parametrize("name", BODIES)
async def test_t12_a_body_that_stops_is_408(hurried: RunningDoor, name: str) -> None:
    """T-12: a body that does not come holds up nobody; nothing was reserved for it."""
    reader, writer = await connect(hurried.url)
    writer.write((HEAD + BODIES[name]).encode())

    said = await read_one(reader)

    await close(writer)
    assert (said.status, said.code, said.headers["connection"]) == (408, "request_timeout", "close")
    assert held(hurried) == []


async def test_t12_a_body_that_drips_is_408(hurried: RunningDoor) -> None:
    """T-12: less than 1 KiB a second, after the first grace, is too little."""
    reader, writer = await connect(hurried.url)
    writer.write(f"{HEAD}Content-Length: 100000\r\n\r\n".encode())
    dripping = asyncio.create_task(drip(writer, b"x" * 1000, 0.01))

    said = await read_one(reader)

    dripping.cancel()
    await close(writer)
    assert said.status == 408


async def test_t12_a_body_that_comes_steadily_is_read(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-12: a large body over a slow line is no attack; it may take longer than the grace."""
    upstream.scripts = [[completion()]]
    patience = Patience(body_grace_s=0.1, body_s=0.2)
    door = await open_door(settings({"one": upstream.url}), patience=patience)
    text = b"a" * 300_000
    reader, writer = await connect(door.url)
    raw = post(b'{"model":"m","messages":[{"role":"user","content":"' + text + b'"}]}')
    for at in range(0, len(raw), 30_000):
        writer.write(raw[at : at + 30_000])
        await writer.drain()
        await asyncio.sleep(0.05)

    said = await read_one(reader)

    await close(writer)
    assert said.status == 200


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
async def test_t12_slow_sockets_leave_the_others_alone(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """T-12: with 2,000 dripping sockets open, honest requests are served as before."""
    upstream.scripts = [[completion()]]
    door = await open_door(settings({"one": upstream.url}))

    async def times(count: int = 200) -> list[float]:
        taken = []
        for _ in range(count):
            before = time.perf_counter()
            assert (await door.chat()).status == 200
            taken.append(time.perf_counter() - before)
        return statistics.quantiles(taken, n=100)

    await times(20)
    alone = await times()
    async with slow_sockets(door.url, 2000):
        crowded = await times()
        assert door.crowd_size > 1900

    for share in (50, 99):
        before, after = alone[share - 1], crowded[share - 1]
        print(f"p{share}: {before * 1e3:.1f} -> {after * 1e3:.1f} ms, {after / before:.1f} times")
    assert statistics.median(crowded) < 1  # the ratio is published; a busy machine is not judged


@contextlib.asynccontextmanager
async def slow_sockets(url: str, count: int) -> AsyncIterator[None]:
    """That many connections from another process, as they would come."""
    port = url.rpartition(":")[2]
    program = Path(__file__).parent / "programs" / "slow_sockets.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, port, str(count), KEY, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"open\n"
        yield
    finally:
        process.kill()
        await process.wait()


FLOOD = [stream_head(), *([chunk(delta("word " * 4000))] * 600), Act.HANG]


async def test_t16_a_stream_that_nobody_reads_is_cut_and_billed(
    hurried: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-16: without progress the stream ends: its upstream is stopped, it is billed, its hold
    freed."""
    upstream.scripts = [FLOOD]
    _, writer = await connect_small(hurried.url)
    writer.write(post(STREAM))

    async with asyncio.timeout(5):
        while not hurried.events:
            await asyncio.sleep(0.01)

    assert (hurried.events[0].status, hurried.events[0].billable) == ("cancelled", True)
    assert hurried.events[0].admission_nano > 0
    assert "held" not in held(hurried)
    async with asyncio.timeout(5):
        await upstream.left.wait()
    await close(writer)


async def test_t16_a_whole_answer_that_nobody_reads_is_cut(
    hurried: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-16: the same for a JSON answer: it is paid for, and its connection does not stay."""
    upstream.scripts = [[completion("word " * 2_000_000)]]
    _, writer = await connect_small(hurried.url)
    writer.write(post())

    async with asyncio.timeout(8):
        while not hurried.events or hurried.crowd_size:
            await asyncio.sleep(0.01)

    assert hurried.events[0].billable
    await close(writer)


async def test_t16_a_slow_reader_that_reads_is_no_enemy(
    hurried: RunningDoor, upstream: ScriptedUpstream
) -> None:
    """T-16: who takes an answer slowly but steadily gets all of it."""
    upstream.scripts = [[completion("word " * 200_000)]]
    reader, writer = await connect_small(hurried.url)
    writer.write(post())
    taken = b""
    while b"usage" not in taken[-300:]:
        taken += await reader.read(60_000)
        await asyncio.sleep(0.02)

    await close(writer)
    assert len(taken) > 1_000_000


async def connect_small(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client whose program reads nothing: its stream keeps a kilobyte, then it stops."""
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port), limit=1024)
